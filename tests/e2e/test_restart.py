"""containerd is killed and comes back while containers run or end."""

import os
import signal
import time

from lib import image, proc
from lib.containerd import Events
from lib.proc import Sandbox
from lib.runner import check_equal, check, test
from lib.ttrpc import Task
from test_exec import Sleeping


@test()
def a_container_lives_on(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    pid = c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
    c.kill()
    time.sleep(0.5)
    check(proc.alive(pid), "the container died with containerd")
    c.start()
    check_equal(c.tasks().get(cid), (pid, "RUNNING"))
    c.task_kill(cid)
    c.wait_stopped(cid)
    check_equal(c.task_rm_status(cid), 137)
    check_equal(c.ctr("container", "rm", cid).code, 0)


@test()
def one_that_ends_meanwhile_keeps_its_status(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    c.run_detached(image.BUSYBOX, cid, "sh", "-c", "sleep 1.5; exit 4")
    c.kill()
    time.sleep(3)
    c.start()
    check_equal(c.task_status(cid), "STOPPED")
    check_equal(c.task_rm_status(cid), 4)
    check_equal(c.ctr("container", "rm", cid).code, 0)


@test(vm=True)
def one_whose_sandbox_dies_meanwhile_is_cleared_up(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    sandbox = Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000"))
    c.kill()
    os.kill(sandbox.supervisor, signal.SIGKILL)
    proc.wait_until(sandbox.gone, 1, "the sandbox is gone")
    c.start()
    check_equal(c.task_status(cid), "GONE")
    check_equal(c.ctr("container", "rm", cid).code, 0)


@test()
def new_containers_run_after_it(ctx):
    c = ctx.containerd
    c.kill()
    c.start()
    result = c.run_rm(image.BUSYBOX, ctx.new_id(), "echo", "again")
    check_equal((result.code, result.out), (0, b"again\n"), result)


def task_of(c, cid):
    """A connection to the shim, past containerd."""
    with open(os.path.join(c.bundle(cid), "address")) as f:
        return Task(f.read().strip())


@test(vm=True)
def execs_run_on_and_end_meanwhile(ctx):
    """containerd 1.6 does not ask for them when it is back, but a client may: each keeps its status."""
    with Sleeping(ctx) as s:
        c = s.c
        for eid, script in (("ends", "sleep 4; exit 5"), ("lives", "exec sleep 1000")):
            check_equal(c.exec(s.id, eid, "sh", "-c", script, options=("-d",)).code, 0)
        task = task_of(c, s.id)
        check_equal([task.state(s.id, e)["status"] for e in ("ends", "lives")], [2, 2])
        c.kill()
        check_equal(task.wait(s.id, "ends"), 5)
        c.start()
        check_equal(c.task_status(s.id), "RUNNING")
        check_equal([task.state(s.id, e)["status"] for e in ("ends", "lives")], [3, 2])
        check_equal(task.delete(s.id, "ends")["exit_status"], 5)
        check_equal(s.exec("echo", "after").text, "after\n", "a new one")
        task.kill(s.id, 9, "lives")
        check_equal(task.wait(s.id, "lives"), 137)
        task.close()


@test(vm=True)
def an_exit_is_told_once_after_the_daemon_is_back(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    c.run_detached(image.BUSYBOX, cid, "sh", "-c", "sleep 2; exit 6")
    task = task_of(c, cid)
    c.kill()
    check_equal(task.wait(cid), 6)
    task.close()
    c.start()
    with Events(c) as events:
        check_equal(c.task_status(cid), "STOPPED")
        check_equal(c.task_rm_status(cid), 6)
        proc.wait_until(lambda: "/tasks/delete" in [t for t, _ in events.of(cid)], 10, "the end")
        time.sleep(1)
        check(events.statuses(cid) in ([], [6]), f"told: {events.statuses(cid)}")
    c.ctr("container", "rm", cid)
