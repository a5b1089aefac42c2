"""What is answered, and when, while one process of the sandbox stands still (SIGSTOP)."""

import contextlib
import os
import shutil
import signal
import time

from lib import image, proc
from lib.proc import Sandbox
from lib.runner import Skip, check, check_equal, each, test
from lib.shim import HandMade
from lib.ttrpc import TASK, Lost, RpcError, encode

STARVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/release/tests/e2e/starve")
SLEEP = ("/bin/sleep", "100000")
GUESTS_AGENT = "the guest's agent"


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
        shutil.copy(STARVE, os.path.join(lower, "bin/starve"))
        h.start()
        self.task = h.task()
        self.sandbox = Sandbox(self.task.create(h.id, h.bundle, h.overlay(lower)))
        self.task.start(h.id)
        for cid in (self.stopped, self.running):
            self.task.create(cid, *h.sibling(cid, SLEEP, lower, readonlyPaths=[]))  # for starve
            self.task.start(cid)
        self.task.kill(self.stopped)
        self.task.wait(self.stopped)
        self.exec("ended", "/bin/true")
        self.task.wait(self.running, "ended")
        return self

    def __exit__(self, *exc):
        self.hand.__exit__(*exc)

    def stop(self, role):
        """From now on it stands still."""
        if role != GUESTS_AGENT:
            os.kill(self.sandbox.roles()[role], signal.SIGSTOP)
            return
        with contextlib.suppress(RpcError):  # the agent may not come to answer any more
            self.exec("starve", "/bin/starve", "CAP_SYS_NICE", "CAP_SYS_ADMIN")
        time.sleep(1)

    def exec(self, eid, path, *caps):
        self.task.exec(self.running, eid, {
            "args": [path], "cwd": "/", "user": {"uid": 0, "gid": 0},
            "capabilities": {kind: caps for kind in ("bounding", "effective", "permitted")}})
        self.task.start(self.running, eid)


# What is needed for the guest to hear of anything.
SILENT = ("qemu", "agentd", GUESTS_AGENT)
ALWAYS = ("qemu", "mountd", GUESTS_AGENT)


@each([*ALWAYS, "agentd", "vmmd", "persistd", "virtiofsd", "supervisor"], vm=True, deadline=180)
def when_one_stands_still(ctx, role):
    if role not in ALWAYS and not ctx.long:
        raise Skip("one of those that only --long tries")
    with Pod(ctx) as pod:
        task = pod.task
        pod.stop(role)
        from_memory("State", task.state, pod.running)
        from_memory("Connect", task.connect, pod.running)
        from_memory("Pids of a stopped one", task.pids, pod.stopped)
        for cid in (pod.running, pod.hand.id):  # containerd 1.7 asks it after its restart
            said = timed("Pids", 1, task.processes, cid)
            check(len(said) == 1 and said[0][0] == pod.sandbox.supervisor, said)
            check(said[0][1] in ("", "starve") if role in SILENT else said[0][1].endswith(" - /bin/sleep 100000"), said)
        from_memory("Wait of a stopped one", task.wait, pod.stopped)
        from_memory("Wait of an exec that has ended", task.wait, pod.running, "ended")
        check_equal(timed("Delete of an exec that has ended", 0.1, task.delete, pod.running, "ended"),
                    {"pid": pod.sandbox.supervisor, "exit_status": 0})
        check_equal(timed("Delete of a running one", 0.1, task.delete, pod.running), "FailedPrecondition")
        check_equal(timed("Delete of a stopped one", 3, task.delete, pod.stopped), {"pid": pod.sandbox.supervisor, "exit_status": 137})
        check_equal(timed("Kill with SIGWINCH", 3, task.kill, pod.running, signal.SIGWINCH),
                    "DeadlineExceeded" if role in SILENT else None)
        stats = timed("Stats", 5, task.stats, pod.running)
        check(stats == "DeadlineExceeded" if role in SILENT else stats[0].endswith("Metrics"), stats)
        check_equal(timed("Kill with SIGKILL", 4, task.kill, pod.running), None)
        check_equal(timed("its exit", 3, task.wait, pod.running), 137)
        if role in SILENT:  # a guest that did not take SIGKILL is given up, with everybody in it
            check_equal(timed("the others' exit", 3, task.wait, pod.hand.id), 137)
        else:
            check_equal(task.state(pod.hand.id)["status"], 2, "the sandbox's own container")
        timed("Shutdown", 2.5, shutdown, pod.hand, task)
        result = timed("delete", 4, pod.hand.delete)
        check_equal(result.code, 0, result)


@test(vm=True)
def when_the_frontend_stands_still(ctx):
    """Then nobody answers containerd, which gives up and runs `delete`."""
    with Pod(ctx) as pod:
        pod.stop("frontend")
        pod.task.close()
        result = timed("delete", 4, pod.hand.delete)
        check_equal((result.code, pod.hand.exit_status(result)), (0, 137), result)


@test(vm=True)
def when_netd_stands_still(ctx):
    """It lives until the first Start where there was no link at Create, and is asked again then."""
    with HandMade(ctx.containerd, ctx.new_id(), cmd=SLEEP) as hand:
        hand.start()
        task = hand.task()
        sandbox = Sandbox(task.create(hand.id, hand.bundle, hand.overlay()))
        os.kill(sandbox.roles()["netd"], signal.SIGSTOP)
        from_memory("State", task.state, hand.id)
        from_memory("Connect", task.connect, hand.id)
        # Start waits for it, and nobody waits for Start.
        begun = task.send(TASK, "Start", encode((1, hand.id)))
        second = hand.task()
        from_memory("State meanwhile", second.state, hand.id)
        from_memory("Connect meanwhile", second.connect, hand.id)
        check_equal(timed("Start", 10, answer_to, task, begun), "DeadlineExceeded")
        check_equal(timed("Kill with SIGKILL", 4, second.kill, hand.id), None)
        check_equal(timed("its exit", 3, second.wait, hand.id), 137)
        check_equal(timed("Delete", 3, second.delete, hand.id), {"pid": sandbox.supervisor, "exit_status": 137})
        task.close()
        timed("Shutdown", 2.5, shutdown, hand, second)
        result = timed("delete", 4, hand.delete)
        check_equal(result.code, 0, result)


def answer_to(task, stream):
    task.sock.settimeout(30 * proc.patience)
    got, _ = task.receive()
    check_equal(got, stream)


def shutdown(hand, task):
    """Until the shim has hung up."""
    try:
        task.shutdown(hand.id, now=True)
        task.receive()
    except (Lost, ConnectionError):
        pass
    task.close()
