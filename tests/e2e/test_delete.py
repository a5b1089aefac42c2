"""`start` and `delete` of the shim's binary, called by hand as containerd calls them."""

import os
import signal
import stat
import threading

from lib import proc
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, test
from lib.shim import HandMade
from lib.ttrpc import RpcError, STATUS


def deleted(hand, status=None):
    result = hand.delete()
    check_equal(result.code, 0, result)
    check(result.out, f"delete prints no DeleteResponse: {result}")
    if status is not None:
        check_equal(hand.exit_status(result), status, "delete's exit status")


@test()
def a_whole_life_by_hand(ctx):
    with HandMade(ctx.containerd, ctx.new_id(), cmd=["sh", "-c", "echo hello; exit 3"]) as hand:
        task = hand.run()
        check_equal(task.wait(hand.id), 3)
        check_equal(STATUS[task.state(hand.id)["status"]], "stopped")
        check_equal(os.read(hand.stdout, 100), b"hello\n")
        check_equal(task.delete(hand.id), {"pid": hand.pid, "exit_status": 3})
        hand.end(task)


@test()
def the_verbs_answer_what_they_should(ctx):
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        task = hand.run()
        check_equal(STATUS[task.state(hand.id)["status"]], "running")
        check_equal(task.state(hand.id)["pid"], hand.pid)
        check_equal(task.connect(hand.id)["task_pid"], hand.pid)
        check_equal(task.pids(hand.id)[0], hand.pid)
        for verb in (task.state, task.start):
            try:
                verb("nobody")
            except RpcError as e:
                check_equal(e.name, "NotFound", e)
            else:
                raise AssertionError(f"{verb.__name__} of an unknown id succeeds")
        try:
            task.delete(hand.id)
        except RpcError as e:
            check(e.name in ("FailedPrecondition", "Unknown"), e)
        else:
            raise AssertionError("a running container was deleted")
        task.kill(hand.id)
        check_equal(task.wait(hand.id), 137)
        task.delete(hand.id)
        hand.end(task)


@test(vm=True)
def a_connection_is_answered_while_another_waits(ctx):
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        task, other = hand.run(), hand.task()
        waiting = threading.Thread(target=task.wait, args=(hand.id,))
        waiting.start()
        check_equal(STATUS[other.state(hand.id, deadline=1)["status"]], "running")
        other.kill(hand.id)
        waiting.join(10)
        check(not waiting.is_alive(), "Wait did not return")
        other.delete(hand.id)
        task.close()
        hand.end(other)


@test(vm=True)
def delete_twice_after_a_crash(ctx):
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        shim = hand.run().connect(hand.id)["shim_pid"]
        os.kill(shim, signal.SIGKILL)
        deleted(hand, 137)
        deleted(hand)


@test(vm=True)
def delete_while_all_is_well_ends_the_sandbox(ctx):
    """containerd runs it after every disconnect, whatever the shim is doing."""
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        hand.run()
        sandbox = Sandbox(hand.pid)
        deleted(hand, 137)
        check(sandbox.gone(), f"still there: {[proc.describe(p) for p in sandbox.pids()]}")


@test(vm=True)
def delete_tells_the_recorded_status(ctx):
    with HandMade(ctx.containerd, ctx.new_id(), cmd=["sh", "-c", "exit 5"]) as hand:
        task = hand.run()
        check_equal(task.wait(hand.id), 5)
        os.kill(hand.pid, signal.SIGKILL)
        deleted(hand, 5)


@test()
def delete_during_the_normal_end(ctx):
    with HandMade(ctx.containerd, ctx.new_id(), cmd=["true"]) as hand:
        task = hand.run()
        task.wait(hand.id)
        results = []
        threads = [threading.Thread(target=lambda: results.append(hand.delete())) for _ in range(2)]
        for t in threads:
            t.start()
        try:
            task.delete(hand.id)
            task.shutdown(hand.id)
        except Exception:
            pass  # the sandbox may be gone under it
        for t in threads:
            t.join()
        check_equal([r.code for r in results], [0, 0], "\n".join(map(str, results)))


@test(vm=True)
def delete_of_what_was_never_there(ctx):
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        deleted(hand)


@test(vm=True)
def start_twice_is_refused_and_harms_nobody(ctx):
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        task = hand.run()
        again = hand.start_raw()
        check_equal((again.code, again.out), (1, b""), again)
        check_equal(len(again.errtext.strip().splitlines()), 1, again)
        check_contains(again.errtext, hand.id)
        check_equal(STATUS[task.state(hand.id)["status"]], "running")
        task.kill(hand.id)
        task.wait(hand.id)
        task.delete(hand.id)
        hand.end(task)


@test(vm=True)
def a_sandbox_without_a_container_is_deleted(ctx):
    """containerd may be gone right after `start`."""
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        hand.start()
        deleted(hand)


@test(vm=True)
def nobody_else_sees_what_a_sandbox_has(ctx):
    """From its start to its end: its directory and its share are root's, nothing is mounted there, and no
    socket of its processes has an abstract name that whoever shares their network could connect to."""

    def look(hand, roles):
        for path, dirs, _ in os.walk("/run/bulkhead"):
            for full in [path, *(os.path.join(path, d) for d in dirs)]:
                s = os.stat(full)
                check_equal(stat.filemode(s.st_mode), "drwx------", full)
                check(s.st_uid == 0 or full.endswith("/state"), f"{full} is {s.st_uid}'s")
        with open("/proc/self/mountinfo") as f:
            check("/run/bulkhead" not in f.read(), "something is mounted there")
        for role in roles:
            with open(f"/proc/{roles[role]}/net/unix") as f:
                check_equal([line for line in f if " @" in line], [], role)

    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        hand.start()
        task = hand.task()
        sandboxes = Sandbox.find()
        check_equal(len(sandboxes), 1)
        look(hand, sandboxes[0].roles())
        task.create(hand.id, hand.bundle, hand.overlay())
        look(hand, sandboxes[0].roles())
        task.start(hand.id)
        look(hand, sandboxes[0].roles())
        task.kill(hand.id)
        task.wait(hand.id)
        look(hand, sandboxes[0].roles())
        task.delete(hand.id)
        look(hand, sandboxes[0].roles())
        hand.end(task)


@test(vm=True)
def the_socket_is_for_root_alone(ctx):
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        path = hand.start().removeprefix("unix://")
        for what, mode in ((path, "srw-------"), (os.path.dirname(path), "drwx--x--x")):
            s = os.stat(what)
            check_equal((s.st_uid, stat.filemode(s.st_mode)), (0, mode), what)
        deleted(hand)
