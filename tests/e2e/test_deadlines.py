"""What is answered, and when, while one process of the sandbox stands still (SIGSTOP)."""

import os
import signal
import time

from lib import image, proc
from lib.proc import Sandbox
from lib.runner import Skip, check, check_equal, each
from lib.shim import HandMade
from lib.ttrpc import Lost, RpcError

SILENT = ("qemu", "agentd")  # without them nobody reaches the guest
SLEEP = ("/bin/sleep", "100000")


def timed(what, limit, function, *args, **kw):
    """Its answer, or the name of the refusal; the limit is the promise's, the rest is this machine's."""
    began = time.monotonic()
    try:
        said = function(*args, **kw)
    except RpcError as e:
        said = e.name
    except Lost:
        said = "lost"
    took = time.monotonic() - began
    check(took < limit + 0.5 * proc.patience, f"{what} took {took:.2f} s, the limit is {limit}")
    return said


def from_memory(what, function, *args):
    """50 ms: the best of a few, because others use this machine too."""
    best = 1.0
    for _ in range(10):
        began = time.monotonic()
        function(*args)
        best = min(best, time.monotonic() - began)
    check(best < 0.05 * proc.patience, f"{what} takes {best * 1000:.0f} ms")


class Pod:
    """By hand: a sandbox's own container, one that has stopped and one that runs."""

    def __init__(self, ctx):
        self.hand = HandMade(ctx.containerd, ctx.new_id(), cmd=SLEEP)
        self.stopped, self.running = f"{self.hand.id}-s", f"{self.hand.id}-r"

    def __enter__(self):
        h = self.hand.__enter__()
        lower = image.unpack_busybox(os.path.join(h.dir, "lower"))
        h.start()
        self.task = h.task()
        self.sandbox = Sandbox(self.task.create(h.id, h.bundle, h.overlay(lower)))
        self.task.start(h.id)
        for cid in (self.stopped, self.running):
            self.task.create(cid, *h.sibling(cid, SLEEP, lower))
            self.task.start(cid)
        self.task.kill(self.stopped)
        self.task.wait(self.stopped)
        return self

    def __exit__(self, *exc):
        self.hand.__exit__(*exc)


@each(["qemu", "mountd", "agentd", "vmmd", "persistd", "virtiofsd"], vm=True, deadline=180)
def when_one_stands_still(ctx, role):
    if role not in ("qemu", "mountd") and not ctx.long:
        raise Skip("one of those that only --long tries")
    with Pod(ctx) as pod:
        task = pod.task
        os.kill(pod.sandbox.roles()[role], signal.SIGSTOP)
        from_memory("State", task.state, pod.running)
        from_memory("Connect", task.connect, pod.running)
        from_memory("Wait of a stopped one", task.wait, pod.stopped)
        check_equal(timed("Delete of a running one", 0.1, task.delete, pod.running), "FailedPrecondition")
        check_equal(timed("Delete of a stopped one", 3, task.delete, pod.stopped), {"pid": pod.sandbox.supervisor, "exit_status": 137})
        check_equal(timed("Kill with SIGWINCH", 3, task.kill, pod.running, signal.SIGWINCH),
                    "DeadlineExceeded" if role in SILENT else None)
        check_equal(timed("Kill with SIGKILL", 4, task.kill, pod.running), None)
        check_equal(timed("its exit", 3, task.wait, pod.running), 137)
        if role in SILENT:  # a guest that did not take SIGKILL is given up, with everybody in it
            check_equal(timed("the others' exit", 3, task.wait, pod.hand.id), 137)
        else:
            check_equal(task.state(pod.hand.id)["status"], 2, "the sandbox's own container")
        timed("Shutdown", 2.5, shutdown, pod)
        result = timed("delete", 4, pod.hand.delete)
        check_equal(result.code, 0, result)


def shutdown(pod):
    """Until the shim has hung up."""
    try:
        pod.task.shutdown(pod.hand.id, now=True)
        pod.task.receive()
    except (Lost, ConnectionError):
        pass
    pod.task.close()
