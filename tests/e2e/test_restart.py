"""containerd is killed and comes back while containers run or end."""

import os
import signal
import time

from lib import image, proc
from lib.proc import Sandbox
from lib.runner import check_equal, check, test


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
