"""Again and again on one snapshot: whatever a round leaves behind adds up."""

import os

from lib import image, leaks, ttrpc
from lib.proc import Sandbox, wait_until
from lib.runner import check, check_equal, test
from lib.shim import HandMade

ROUNDS, LONG_ROUNDS = 20, 500
QUESTIONS, LONG_QUESTIONS = 2000, 20000

# The kernel counts open files for the whole machine, where others work too (another lab's sandbox
# has some three hundred, and comes and goes), and folds its per-CPU counts in batches: what a
# round leaks must show above that, and stay.
FILES_TOLERATED, FILES_SETTLE_S = 300, 20


@test(deadline=9000)
def one_snapshot_many_times(ctx):
    """An overlay that outlives its container keeps its upper directory in use: the next mount fails."""
    c, cid, rounds = ctx.containerd, ctx.new_id(), LONG_ROUNDS if ctx.long else ROUNDS
    result = c.run(image.BUSYBOX, cid, "sh", "-c", "echo round >>/root/rounds")
    check_equal(result.code, 0, result)
    files = leaks.open_files()
    for i in range(1, rounds):
        result = c.start_again(cid)
        check_equal((result.code, result.err), (0, b""), f"round {i}: {result}")
    with open(os.path.join(c.upper_dir(cid), "root/rounds")) as f:
        check_equal(f.read(), "round\n" * rounds, "what all rounds have written")
    wait_until(lambda: leaks.open_files() - files < FILES_TOLERATED, FILES_SETTLE_S,
               f"fewer than {FILES_TOLERATED} files more are open after {rounds} rounds", poll=0.05)
    check_equal(c.ctr("container", "rm", cid).code, 0)


def ask(hand, task, n):
    """Everything that can be asked of a running container and changes nothing."""
    for i in range(n):
        task.state(hand.id)
        task.pids(hand.id)
        task.connect(hand.id)
        try:
            task.state("nobody")
        except ttrpc.RpcError as e:
            check_equal(e.name, "NotFound")
        if i % 10 == 0:
            task.kill(hand.id, signal=18)  # SIGCONT: the guest's agent is asked too
            left = hand.task()
            left.send(ttrpc.TASK, "Wait", ttrpc.encode((1, hand.id)))
            left.close()  # without its answer


@test(deadline=600, vm=True)
def one_container_asked_many_times(ctx):
    """No question leaves anything behind in the processes that answer it."""
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        task = hand.run()
        sandbox = Sandbox(hand.pid)
        ask(hand, task, 200)
        before = leaks.held(sandbox)
        ask(hand, task, LONG_QUESTIONS if ctx.long else QUESTIONS)
        leaks.assert_held(sandbox, before)
        task.kill(hand.id)
        task.wait(hand.id)
        task.delete(hand.id)
        hand.end(task)
