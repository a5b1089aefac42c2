"""The guest's agent reached by vsock (agent_transport=vsock), for guests that have no port for it."""

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import socket
import struct
import threading
import time

from lib import golden, image, proc, ttrpc
from lib.proc import Sandbox, run
from lib.runner import Skip, check, check_contains, check_equal, test
from lib.shim import HandMade

DEVICE = "/dev/vhost-vsock"
VHOST_VSOCK_SET_GUEST_CID, AGENT_PORT = 0x4008AF60, 1024


def need_vsock():
    if not os.path.exists(DEVICE):
        raise Skip(f"no {DEVICE}")


def held(kind):
    """{role: [peers]} of every process of every sandbox that holds such an fd; of a device the peer is None."""
    found = {}
    for sandbox in Sandbox.find():
        for role, pid in sandbox.roles().items():
            for fd in os.listdir(f"/proc/{pid}/fd"):
                peer = golden.vsock_peer(pid, fd) if kind == "vsock" else None
                if golden.fd_kind(pid, fd, {}) == kind:
                    found.setdefault(role, []).append(peer)
    return found


def cid_is_free(cid):
    """Nobody on this host has it: it could be ours, for as long as this takes."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", cid))
        return True
    except OSError as e:
        if e.errno != errno.EADDRINUSE:
            raise
        return False
    finally:
        os.close(fd)


def cid_said(hand):
    """By the log, which says it once."""
    lines = re.findall(r'msg="agent_transport=vsock: CID (\d+),', hand.log())
    check_equal(len(lines), 1, "lines that say it")
    return int(lines[0])


@contextlib.contextmanager
def running(ctx, between=None):
    """A container by hand that says hello and ends when it is told something: (hand, task). between: run
    in a thread while Create does."""
    script = "echo hello; read word; exit 7"
    bin_dir = ctx.other_prefix(agent_transport="vsock")
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir, cmd=("/bin/sh", "-c", script)) as hand:
        (out, stdout), (err, _) = hand.output("stdout"), hand.output("stderr")
        stdin = hand.fifo("stdin")
        hand.start()
        task = hand.task()
        thread = threading.Thread(target=between or (lambda _: None), args=(hand,))
        thread.start()
        hand.pid = task.create(hand.id, hand.bundle, hand.overlay(), stdin=stdin, stdout=out, stderr=err,
                               deadline=60 * proc.patience)
        thread.join()
        task.start(hand.id)
        check_equal(read_until(stdout, b"\n"), b"hello\n", "its output")
        yield hand, task
        with open(stdin, "wb") as f:
            f.write(b"enough\n")
        check_equal(task.wait(hand.id), 7, "its status")
        task.delete(hand.id)
        hand.end(task)


def read_until(fd, word):
    text = b""
    while word not in text:
        ready, _, _ = select.select([fd], [], [], 60 * proc.patience)
        check(ready, f"nothing comes after {text!r}")
        text += os.read(fd, 4096)
    return text


# -- what is wrong with the host or its configuration

def refused(ctx, **settings):
    """The one line that `start` says."""
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(**settings)) as hand:
        result = hand.start_raw()
        check_equal((result.code, result.out), (1, b""), result)
        check_equal(len(result.errtext.splitlines()), 1, "lines")
        return result.errtext


@test(vm=True)
def without_the_device_there_is_one_clear_sentence(ctx):
    """And no sandbox: it never becomes the other transport."""
    if not os.path.exists(DEVICE):
        check_contains(refused(ctx, agent_transport="vsock"), "agent_transport=vsock: /dev/vhost-vsock (",
                       "agent_transport=serial", "No such file or directory")
        return
    run(["mount", "--bind", "/dev/null", DEVICE], check=True)  # in the lab alone
    try:
        check_contains(refused(ctx, agent_transport="vsock"), "agent_transport=vsock: take CID ",
                       "Inappropriate ioctl for device")
    finally:
        run(["umount", DEVICE], check=True)


@test(vm=True)
def a_transport_that_is_none(ctx):
    check_contains(refused(ctx, agent_transport="tcp"), "agent_transport=tcp: serial or vsock")


# -- where there is one

@test(vm=True, deadline=240)
def the_main_job(ctx):
    """As `ctr run --rm`: output, status, and nothing left."""
    need_vsock()
    shim = os.path.join(ctx.other_prefix(agent_transport="vsock"), f"containerd-shim-{ctx.shim}-v2")
    result = ctx.containerd.ctr("run", "--rm", "--runtime", shim, image.BUSYBOX, ctx.new_id(),
                                "sh", "-c", "echo hello; echo oops >&2; exit 7", deadline=90)
    check_equal((result.code, result.out, result.err), (7, b"hello\n", b"oops\n"), result)


@test(vm=True, deadline=240)
def who_holds_what(ctx):
    """QEMU the device, agentd the stream, nobody anything else; output, stdin, status and an exec; the CID
    is free afterwards."""
    need_vsock()
    with running(ctx) as (hand, task):
        cid = cid_said(hand)
        check_equal(held("vhost-vsock"), {"qemu": [None]}, "who has the device")
        check_equal(held("vsock"), {"agentd": [(cid, AGENT_PORT)]}, "who has a vsock socket")
        check(not cid_is_free(cid), "the CID is the guest's")
        words = proc.cmdline(Sandbox(hand.pid).roles()["qemu"])
        check_contains(str(words), "vhost-vsock-pci", f'"guest-cid":{cid}', "agent.server_addr=vsock://-1:1024")
        check("agent.channel.0" not in str(words), "the agent has no port besides")

        s, rows = golden.Sandbox(Sandbox(hand.pid)), golden.tables(ctx.accel, also=("vsock",))
        bad = [f"{name}: {d}" for name, pid in s.pids.items()
               for d in golden.compare(rows[name], s.observe(pid))]
        check(not bad, "\n".join(bad))

        out, fd = hand.output("exec")
        task.exec(hand.id, "e1", {"args": ["sh", "-c", "echo here; exit 5"], "cwd": "/", "env": ["PATH=/bin"],
                                  "user": {"uid": 0, "gid": 0}}, stdout=out)
        task.start(hand.id, "e1")
        check_equal(task.wait(hand.id, "e1"), 5, "the exec's status")
        check_equal(read_until(fd, b"\n"), b"here\n", "the exec's output")
        task.delete(hand.id, "e1")
    check(cid_is_free(cid), "the CID is free again")


def dial_as_nobody(cid, seconds):
    """A connection to the guest's agent, by a process that has nothing to do with its sandbox: what it hears."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_VSOCK) as s:
                s.settimeout(5)
                s.connect((cid, AGENT_PORT))
                os.write(w, s.recv(100))
                os._exit(0)
            time.sleep(0.05)
        os._exit(1)
    os.close(w)
    os.waitpid(pid, 0)
    heard = os.read(r, 100)
    os.close(r)
    return heard


@test(vm=True, deadline=240)
def one_who_hangs_up_is_not_the_host(ctx):
    """Before vmmd comes somebody else dials the agent, as any uid can, and goes: the next one is served. While
    it serves one it listens to nobody."""
    need_vsock()
    heard = []

    def meanwhile(hand):
        proc.wait_until(lambda: "-> up" in hand.log(), 60, "the VM is up")
        time.sleep(2)  # and runs
        # virtiofsd has a PID namespace of its own, and is found too.
        vmmd = next(s.roles()["vmmd"] for s in Sandbox.find() if "vmmd" in s.roles())
        os.kill(vmmd, signal.SIGSTOP)
        try:
            heard.append(dial_as_nobody(cid_said(hand), 60 * proc.patience))
        finally:
            os.kill(vmmd, signal.SIGCONT)

    with running(ctx, between=meanwhile) as (hand, _):
        check_equal(heard, [b"\0\0\0\x10\0\0\0\0H\0bulkhead-agent/1"], "the hello")
        check_equal(dial_as_nobody(cid_said(hand), 1), b"", "somebody who comes later")


@test(vm=True)
def before_the_guest_vmmd_alone_holds_it(ctx):
    """From LOCK to the first Create: the device with its CID, and the socket."""
    need_vsock()
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(agent_transport="vsock")) as hand:
        hand.start()
        proc.wait_until(lambda: "agent_transport=vsock" in hand.log(), 10, "LOCK")
        cid = cid_said(hand)
        check_equal(held("vhost-vsock"), {"vmmd": [None]}, "who has the device")
        check_equal(held("vsock"), {"vmmd": [None]}, "who has a vsock socket, connected to nobody")
        hand.delete()
    check(cid_is_free(cid), "the CID is free again")


@test(vm=True, deadline=240)
def two_sandboxes_have_two_cids(ctx):
    """And a CID that another guest of this host has is passed by."""
    need_vsock()
    bin_dir = ctx.other_prefix(agent_transport="vsock")
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir) as a, \
            HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir) as b:
        a.start()
        proc.wait_until(lambda: "agent_transport=vsock" in a.log(), 10, "LOCK")
        first = cid_said(a)
        # The next lease's own first number.
        other = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(other, VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", first + 8))
        try:
            b.start()
            proc.wait_until(lambda: "agent_transport=vsock" in b.log(), 10, "LOCK")
            check_equal(cid_said(b), first + 9, "the next number that is free")
        finally:
            os.close(other)
        a.delete()
        b.delete()
    check(cid_is_free(first) and cid_is_free(first + 9), "both are free again")


def cmdline_of(ctx):
    with open(os.path.join(ctx.stage_dir, "share/bulkhead/cmdline")) as f:
        return f.read().strip()


def create_fails(ctx, **settings):
    """What containerd is told."""
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(**settings)) as hand:
        hand.start()
        task = hand.task()
        try:
            task.create(hand.id, hand.bundle, hand.overlay(), deadline=60 * proc.patience)
        except ttrpc.RpcError as e:
            hand.end(task)
            return str(e)
    raise AssertionError("a guest without an agent was taken")


@test(vm=True, deadline=240)
def a_guest_that_does_not_listen(ctx):
    """It boots without a driver for it: Create ends in time, with a sentence, and nothing is left."""
    need_vsock()
    said = create_fails(ctx, agent_transport="vsock", hello_timeout_ms=15000,
                        cmdline=f"{cmdline_of(ctx)} module_blacklist=vmw_vsock_virtio_transport")
    check_contains(said, "connect to the guest's agent: connect: the guest's agent does not listen at vsock ",
                   "after 15000 ms")
