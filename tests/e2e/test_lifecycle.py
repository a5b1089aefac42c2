"""What `ctr` and every other client does first."""

import os

from lib import image, proc
from lib.runner import check, check_contains, check_equal, each, test


@each([0, 7, 255])
def exit_status(ctx, status):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", f"exit {status}")
    check_equal(result.code, status, result)


@test()
def a_process_killed_by_itself_is_137(ctx):
    """One process below the container's first: that one no signal from inside can kill."""
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    check_equal(result.code, 137, result)


@test()
def a_container_killed_from_outside_is_137(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    child = c.popen(image.BUSYBOX, cid, "sh", "-c", "echo ready; exec sleep 1000", options=("--rm",))
    check_equal(child.stdout.readline(), b"ready\n")
    c.task_kill(cid)
    child.communicate(timeout=30 * proc.patience)
    check_equal(child.returncode, 137, "ctr run ends with the container's status")


@test()
def output_arrives(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "echo", "hello")
    check_equal((result.code, result.out, result.err), (0, b"hello\n", b""), result)


@test()
def a_command_that_is_not_there_is_one_clear_error(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "/no/such/command")
    check(result.code not in (0, None), result)
    check_contains(result.errtext, "/no/such/command")


@test()
def detached_then_listed_killed_removed(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    pid = c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
    check_equal(c.tasks()[cid], (pid, "RUNNING"))
    check(proc.alive(pid), "the task's pid is a live process of the host")

    check_contains(c.ctr("task", "ps", cid, check=True).text, str(pid))

    check(c.task_rm(cid).code != 0, "a running task was removed")
    check_equal(c.task_status(cid), "RUNNING")

    check_equal(c.task_kill(cid).code, 0, "task kill")
    c.wait_stopped(cid)
    check_equal(c.task_rm_status(cid), 137)
    check_equal(c.task_status(cid), "GONE")
    check_equal(c.ctr("container", "rm", cid).code, 0)


@test()
def sigterm_reaches_the_process(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    child = c.popen(image.BUSYBOX, cid, "sh", "-c",
                    "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done", options=("--rm",))
    check_equal(child.stdout.readline(), b"ready\n")
    c.task_kill(cid, "SIGTERM")
    _, err = child.communicate(timeout=30 * proc.patience)
    check_equal(child.returncode, 9, err)


@test()
def a_task_that_is_gone_is_not_found(ctx):
    result = ctx.containerd.ctr("task", "kill", "nobody")
    check(result.code != 0, result)
    check_contains(result.errtext, "not found")


@test()
def two_at_once(ctx):
    c, a, b = ctx.containerd, ctx.new_id(), ctx.new_id()
    pids = {cid: c.run_detached(image.BUSYBOX, cid, "sleep", "1000") for cid in (a, b)}
    check(pids[a] != pids[b], "two tasks, one pid")
    check_equal(c.tasks(), {cid: (pids[cid], "RUNNING") for cid in (a, b)})
    c.task_kill(a)
    c.wait_stopped(a)
    check_equal(c.task_status(b), "RUNNING", "the other one")
    result = c.run_rm(image.BUSYBOX, ctx.new_id(), "true")
    check_equal(result.code, 0, result)
    for cid in (a, b):
        c.remove(cid)


@test()
def the_same_id_twice_is_refused(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
    result = c.run(image.BUSYBOX, cid, "true")
    check(result.code != 0, result)
    check_contains(result.errtext, "already exists")
    check_equal(c.task_status(cid), "RUNNING")
    c.remove(cid)


@test()
def an_id_can_be_used_again(ctx):
    cid = ctx.new_id()
    for _ in range(2):
        result = ctx.containerd.run_rm(image.BUSYBOX, cid, "echo", "again")
        check_equal((result.code, result.out), (0, b"again\n"), result)


@test()
def environment_and_working_directory(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", "echo $WORD; pwd",
                                   options=("--env", "WORD=spoken", "--cwd", "/tmp"))
    check_equal(result.text, "spoken\n/tmp\n", result)


@test()
def the_network_namespace_is_its_own_and_gone_afterwards(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    pid = c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
    ns = proc.namespace(pid, "net")
    check(ns and ns != proc.namespace("self", "net"), f"/proc/{pid}/ns/net is {ns}, the host's")
    c.remove(cid)
    check(all(proc.namespace(p, "net") != ns for p in proc.pids()), f"{ns} is still there")


@test(vm=True)
def the_hosts_network_is_refused(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "true", options=("--net-host",))
    check(result.code != 0, result)
    check_contains(result.errtext, "hostNetwork is not available in a VM")


@test()
def version_and_nothing_else(ctx):
    shim = ctx.containerd.shim_path
    result = proc.run([shim, "-v"], deadline=5, cwd="/")
    check_equal(result.code, 0, result)
    check(result.out, "-v says nothing")
    check(os.path.basename(shim) in result.text or "bulkhead" in result.text, result)
