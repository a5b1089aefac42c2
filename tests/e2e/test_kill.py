"""SIGKILL of any one process at any time: all are gone within a second, and nothing stays."""

import os
import signal
import subprocess
import time

from lib import image, proc
from lib.containerd import Events
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, each, test
from lib.shim import HandMade, run_delete

GONE_WITHIN_S = 1.0
VM = ["qemu", "virtiofsd"]
STEADY = ["supervisor", "frontend", "agentd", "vmmd", "mountd", "persistd", *VM]
AT_START = ["supervisor", "frontend", "agentd", "vmmd", "mountd", "persistd", "netd", "slot"]


def gone_in_time(sandbox):
    end = time.monotonic() + GONE_WITHIN_S * proc.patience
    while not sandbox.gone():
        left = ", ".join(map(proc.describe, sandbox.pids()))
        check(time.monotonic() < end, f"still there after {GONE_WITHIN_S} s: {left}")
        time.sleep(0.005)


@each([r for r in STEADY if r not in VM], vm=True)
def while_it_runs(ctx, role):
    c, cid = ctx.containerd, ctx.new_id()
    with Events(c) as events:
        sandbox = Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000"))
        os.kill(sandbox.roles()[role], signal.SIGKILL)
        gone_in_time(sandbox)
        proc.wait_until(lambda: events.statuses(cid), 6, "containerd is told of the exit")
        c.wait_stopped(cid)
        c.remove(cid)
        check_equal(set(events.statuses(cid)), {137}, "exit statuses told")


@each(VM, vm=True)
def the_vm_while_it_runs(ctx, role):
    """The shim stays, to tell of the exit and to be asked to delete; the machine is gone at once."""
    c, cid = ctx.containerd, ctx.new_id()
    with Events(c) as events:
        sandbox = Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000"))
        os.kill(sandbox.roles()[role], signal.SIGKILL)
        proc.wait_until(lambda: not set(VM) & set(sandbox.roles()), GONE_WITHIN_S, "the machine is gone")
        c.wait_stopped(cid, GONE_WITHIN_S)
        check_equal(c.task_rm_status(cid), 137)
        c.ctr("container", "rm", cid)
        check_equal(events.statuses(cid), [137], "exit statuses told")


def begin(ctx, cid, *options):
    return subprocess.Popen(ctx.containerd.run_argv(image.BUSYBOX, cid, "sleep", "1000",
                                                    options=("-d", *options)),
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, start_new_session=True)


def watch_for(role, client):
    """(sandbox, pid) as soon as a process of that role is there."""
    while client.poll() is None:
        for sandbox in Sandbox.find():
            pid = sandbox.roles().get(role)
            if pid:
                return sandbox, pid
    return None, None


def failed_with_a_reason(client):
    _, err = client.communicate(timeout=30 * proc.patience)
    check(client.returncode != 0, "ctr run -d succeeded")
    check(err.strip(), "ctr run failed without a word")


@each(STEADY, vm=True)
def during_create(ctx, role):
    """The guest boots: QEMU runs, and its agent has not said hello yet."""
    cid = ctx.new_id()
    kill_at_create(ctx, cid, role)
    ctx.containerd.ctr("container", "rm", cid)


def kill_at_create(ctx, cid, role, *options):
    client = begin(ctx, cid, *options)
    sandbox, _ = watch_for("qemu", client)
    check(sandbox, "QEMU was not seen")
    time.sleep(0.2)
    os.kill(sandbox.roles()[role], signal.SIGKILL)
    gone_in_time(sandbox)
    failed_with_a_reason(client)


def kill_at_start(ctx, cid, role, *options):
    client = begin(ctx, cid, *options)
    sandbox, pid = watch_for(role, client)
    check(sandbox, f"{role} was not seen")
    os.kill(pid, signal.SIGKILL)
    gone_in_time(sandbox)
    failed_with_a_reason(client)


@each(AT_START, vm=True)
def during_start(ctx, role):
    """As soon as the process is there, which is before or just after all boxes are shut.

    containerd runs no `delete` when the socket it was told does not answer its first connect;
    here it is run for it, and has nothing to do where containerd did.
    """
    cid = ctx.new_id()
    kill_at_start(ctx, cid, role)
    check_equal(run_delete(ctx.containerd, cid).code, 0, "delete")
    ctx.containerd.ctr("container", "rm", cid)


@test(vm=True)
def qemu_hangs_before_it_answers(ctx):
    """Stopped right after its exec: the start fails by a deadline, not by a death."""
    cid, began = ctx.new_id(), time.monotonic()
    client = begin(ctx, cid)
    sandbox, pid = watch_for("qemu", client)
    check(sandbox, "QEMU was not seen")
    os.kill(pid, signal.SIGSTOP)
    _, err = client.communicate(timeout=40 * proc.patience)
    check(client.returncode != 0, "ctr run -d succeeded")
    check_contains(err.decode(), "QMP")
    check(time.monotonic() - began < 20 * proc.patience, "only after 20 s")
    check(sandbox.gone(), f"still there: {[proc.describe(p) for p in sandbox.pids()]}")
    ctx.containerd.ctr("container", "rm", cid)


@test(vm=True)
def delete_ends_a_sandbox_that_does_nothing_any_more(ctx):
    """Every process is stopped: nothing of the end may depend on their help."""
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        hand.run()
        sandbox = Sandbox(hand.pid)
        for pid in sandbox.pids():
            os.kill(pid, signal.SIGSTOP)
        result = hand.delete(deadline=5)
        check_equal((result.code, hand.exit_status(result)), (0, 137), result)
        check(sandbox.gone(), f"still there: {[proc.describe(p) for p in sandbox.pids()]}")


@test(vm=True)
def an_id_whose_start_was_killed_can_be_used_again(ctx):
    """The next `start` of the same id takes what is left, without a `delete` in between."""
    c, cid = ctx.containerd, ctx.new_id()
    kill_at_start(ctx, cid, "supervisor")
    c.ctr("container", "rm", cid)
    result = c.run_rm(image.BUSYBOX, cid, "echo", "again")
    check_equal((result.code, result.out), (0, b"again\n"), result)


@test(vm=True)
def the_shim_and_containerd_at_once(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    sandbox = Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000"))
    c.kill()
    os.kill(sandbox.supervisor, signal.SIGKILL)
    gone_in_time(sandbox)
    c.start()
    c.wait_stopped(cid)
    c.remove(cid)


@test(vm=True)
def one_sandbox_does_not_take_another_along(ctx):
    c, a, b = ctx.containerd, ctx.new_id(), ctx.new_id()
    sandbox = Sandbox(c.run_detached(image.BUSYBOX, a, "sleep", "1000"))
    other = c.run_detached(image.BUSYBOX, b, "sleep", "1000")
    os.kill(sandbox.supervisor, signal.SIGKILL)
    gone_in_time(sandbox)
    check_equal(c.tasks()[b], (other, "RUNNING"))
    c.remove(a)
    c.remove(b)


def serves_files(sandbox):
    """virtiofsd's child, which is in namespaces of its own."""
    parent = sandbox.roles()["virtiofsd"]
    children = []

    def there():
        with open(f"/proc/{parent}/task/{parent}/children") as f:
            children[:] = [pid for pid in f.read().split() if proc.namespace(pid, "pid") not in (None, sandbox.pidns)]
        return children

    proc.wait_until(there, 5, "virtiofsd serves files")
    return children[0]


@test(vm=True)
def a_container_that_waits_for_a_page(ctx):
    """The read that it waits for is still on its way when the container is gone.

    A kernel of the guest that takes the container's file system away at that moment stops with a
    BUG, and the exit is never told.
    """
    c, cid = ctx.containerd, ctx.new_id()
    client = begin(ctx, cid)
    sandbox, _ = watch_for("qemu", client)
    check(sandbox, "QEMU was not seen")
    slow = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=preadv",
                             "-e", "inject=preadv:delay_enter=3000000", "-p", serves_files(sandbox)])
    try:
        _, err = client.communicate(timeout=60 * proc.patience)
        check_equal(client.returncode, 0, err)
        time.sleep(0.5 * proc.patience)
        check_equal(c.task_kill(cid).code, 0, "task kill")
        c.wait_stopped(cid, 10)
        check("qemu" in sandbox.roles(), "the guest did not survive")
    finally:
        slow.terminate()
        slow.wait(10)
    check_equal(c.task_rm_status(cid), 137)
    c.ctr("container", "rm", cid)
