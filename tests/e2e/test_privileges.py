"""Every process of a running sandbox holds what seccomp-profiles/README.md says, and nothing more.

The last tests show, column by column, that the comparison fails on a real process that holds
one thing too many: otherwise it would prove nothing.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct

from lib import golden, image, proc, runner
from lib.runner import check, check_equal, test
from lib.shim import HandMade


def differences(sandbox, rows, skip=()):
    bad = []
    for name, want in rows.items():
        if name in skip:
            continue
        pid = sandbox.pids.get(name)
        if pid is None:
            bad.append(f"{name} is not there")
        else:
            bad += [f"{name}: {d}" for d in golden.compare(want, sandbox.observe(pid))]
    return bad


@test(vm=True)
def running_processes_hold_what_the_page_says(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    pid = c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
    s = golden.Sandbox(proc.Sandbox(pid))
    rows = golden.tables(ctx.accel)
    check("netd" not in s.pids, "netd has exited before the guest runs")
    bad = differences(s, rows, skip=("netd",))
    check_equal(set(s.pids) - set(rows), set(), "processes that the page does not know")
    c.task_kill(cid)
    c.wait_stopped(cid)
    c.remove(cid)
    check(not bad, "\n".join(bad))


@test(vm=True)
def netd_holds_what_the_page_says(ctx):
    """It is there from LOCK until the first Create."""
    with HandMade(ctx.containerd, ctx.new_id()) as h:
        h.start()
        supervisor = proc.wait_until(lambda: proc.Sandbox.find(), 5, "the sandbox")[-1]
        proc.wait_until(lambda: proc.status_field(supervisor.supervisor, "Seccomp") == "2", 5, "LOCK")
        s = golden.Sandbox(supervisor)
        bad = differences(s, {"netd": golden.tables()["netd"]})
        h.delete()
    check(not bad, "\n".join(bad))


# -- a parent that is careless with its fds

FOREIGN = ("/", "/etc/shadow", "/proc")


@contextlib.contextmanager
def careless(n):
    """n fds that a child inherits: directories, files, pipes, sockets, events; and what they are."""
    fds = [os.open(path, os.O_RDONLY) for path in FOREIGN]
    named = {(s.st_dev, s.st_ino): path for path, s in zip(FOREIGN, map(os.fstat, fds))}
    while len(fds) < n:
        left, right = socket.socketpair()
        fds += [left.detach(), right.detach(), *os.pipe(), os.eventfd(0), os.open("/etc/passwd", os.O_RDONLY)]
    fds = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in fds] + fds
    try:
        yield fds, named
    finally:
        for fd in fds:
            os.close(fd)


def found_again(pid, named):
    """Of these files, those that a process holds: [(fd, path)]."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            s = os.stat(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if (s.st_dev, s.st_ino) in named:
            yield fd, named[s.st_dev, s.st_ino]


@test(vm=True)
def what_the_parent_has_open_reaches_nobody(ctx):
    """`start` with 200 fds more: every process holds what it always does, QEMU and virtiofsd too."""
    rows = golden.tables(ctx.accel)
    with HandMade(ctx.containerd, ctx.new_id()) as hand, careless(100) as (fds, named):
        check(len(fds) >= 200, f"{len(fds)} fds")
        hand.parents_fds = fds
        task = hand.run()
        s = golden.Sandbox(proc.Sandbox(hand.pid))
        bad = [f"{name}: {d}" for name, pid in s.pids.items()
               for d in golden.compare_fds(rows[name]["fds"], s.observe(pid)["fds"])
               # Nobody reads its stdin here.
               if (name, d) != ("agentd", "fds: 2 of kind fifo, not 4")]
        own = {n: p for n, p in s.pids.items() if n != "mountd"}
        held = [f"{name} holds {path} as {fd}" for name, pid in own.items()
                for fd, path in found_again(pid, named)]
        # mountd works on the host's own directories, but has no reason to hold a file.
        held += [f"mountd holds {path}" for _, path in found_again(s.pids["mountd"], named)
                 if path == "/etc/shadow"]
        task.kill(hand.id)
        task.wait(hand.id)
        task.delete(hand.id)
        hand.end(task)
    check(not bad + held, "\n".join(bad + held))


# -- the comparison itself, on a process made for it

libc = ctypes.CDLL(None, use_errno=True)
PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 47, 24, 22, 38
CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS = 0x20000, 0x40000000, 0x8000000, 0x4000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 32, 4096, 16384, 1 << 18, 2
UID = 1999990000

PROBE = {
    "uid": "+0", "groups": "none", "capabilities": "none", "no_new_privs": "yes",
    "seccomp": "filter", "mnt": "own", "net": "own", "ipc": "own", "uts": "own", "user": "host",
    "root": "empty", "writable mounts": "0", "fds": "null 3, pipe 1",
}


def must(result):
    if result < 0:
        os._exit(100 + ctypes.get_errno() % 100)


def empty_root(writable):
    must(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    must(libc.mount(b"probe", b"/mnt", b"tmpfs", 0, b"size=4k"))
    os.chdir("/mnt")
    must(libc.syscall(155, b".", b"."))  # pivot_root
    must(libc.umount2(b".", MNT_DETACH))
    if not writable:
        must(libc.mount(None, b"/", None, MS_REMOUNT | MS_BIND | MS_RDONLY, None))


def allow_all_filter():
    code = struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000)
    buf = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(buf))
    must(libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0))


def set_capabilities(mask):
    header = struct.pack("Ii", 0x20080522, 0)
    data = struct.pack("IIIIII", mask, mask, 0, 0, 0, 0)
    must(libc.syscall(126, header, data))  # capset


def probe_child(ready, extra):
    """Becomes what PROBE says, and one thing more."""
    names = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS
    must(libc.unshare(names if extra == "net" else names | CLONE_NEWNET))
    null = os.open("/dev/null", os.O_RDWR)
    other = os.open("/etc/passwd", os.O_RDONLY)
    empty_root(extra == "writable mounts")
    for cap in range(64):
        libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([12345] if extra == "groups" else [])
    uid = UID + (1 if extra == "uid" else 0)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    set_capabilities(1 << 12 if extra == "capabilities" else 0)  # NET_ADMIN
    if extra != "no_new_privs":
        must(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if extra != "seccomp":
            allow_all_filter()
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(ready, 3)
    if extra == "fds":
        os.dup2(other, 4)
    os.closerange(5 if extra == "fds" else 4, 4096)
    os.write(3, b"x")
    signal.pause()


class FakeSandbox(golden.Sandbox):
    def __init__(self, pid):
        self.pids, self.base, self.known, self.names = {"probe": pid}, UID, golden.sockets([pid]), {}
        for kind in ("mnt", "ipc", "uts", "user", "net", "pid"):
            self.names[proc.namespace("self", kind)] = "host"


def probe(extra):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            probe_child(w, extra)
        finally:
            os._exit(99)
    os.close(w)
    try:
        check_equal(os.read(r, 1), b"x", f"the probe with one more {extra} runs")
        return golden.compare(PROBE, FakeSandbox(pid).observe(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(r)


@test()
def the_comparison_passes_on_a_process_as_it_should_be(ctx):
    check_equal(probe(None), [])


def fails_on(column):
    @test()
    def one(ctx):
        bad = probe(column)
        # Without no_new_privs an unprivileged process cannot have a filter either.
        allowed = {column, "seccomp"} if column == "no_new_privs" else {column}
        check(bad, f"one more in column {column} was not noticed")
        check(all(any(b.startswith(a) for a in allowed) for b in bad), bad)
    one.title = f"privileges.the_comparison_fails_on_one_more[{column}]"


for _column in ("uid", "groups", "capabilities", "no_new_privs", "seccomp", "net", "writable mounts", "fds"):
    fails_on(_column)
