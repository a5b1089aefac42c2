"""Whole lives of containers, in each of which one process is killed at some moment: whichever and
whenever it was, every call is answered or fails in time, and after `delete` nothing is there."""

import contextlib
import os
import random
import signal
import threading
import time

from lib import image, lab, leaks, ttrpc
from lib.proc import Sandbox
from lib.runner import check, check_equal, test
from lib.shim import HandMade

CYCLES, LONG_CYCLES = 6, 500
ROLES = ("supervisor", "frontend", "agentd", "vmmd", "mountd", "persistd", "netd", "slot", "qemu", "virtiofsd")


class Killer(threading.Thread):
    """Kills one process of the sandbox, `after` seconds from now. `killed` is its role, or None where
    there was none any more."""

    def __init__(self, rnd, after):
        super().__init__(daemon=True)
        self.rnd, self.after, self.over, self.killed = rnd, after, threading.Event(), None
        self.start()

    def run(self):
        if self.over.wait(self.after):
            return
        with contextlib.suppress(ProcessLookupError, AssertionError):  # it has ended meanwhile
            for sandbox in Sandbox.find()[:1]:  # virtiofsd has a PID namespace of its own in it
                roles = sandbox.roles()
                role = self.rnd.choice(sorted(set(roles) & set(ROLES)) or [None])
                if role:
                    os.kill(roles[role], signal.SIGKILL)
                    self.killed = role

    def end(self):
        self.over.set()
        self.join()


class Refused(Exception):
    """The shim's `start` has failed."""


def start(hand):
    try:
        hand.start()
    except AssertionError as e:
        raise Refused(e) from e


def live(hand, lower, steps):
    """One container's life; `steps` gets the name of each step that has been done."""
    start(hand)
    steps.append("start")
    with contextlib.closing(hand.task()) as task:
        task.create(hand.id, hand.bundle, hand.overlay(lower))
        steps.append("Create")
        task.start(hand.id)
        steps.append("Start")
        task.exec(hand.id, "exec", {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"]})
        task.start(hand.id, "exec")
        task.wait(hand.id, "exec")
        task.delete(hand.id, "exec")
        steps.append("Exec")
        task.kill(hand.id)
        check_equal(task.wait(hand.id), 137)
        task.delete(hand.id)
        steps.append("Delete")
        with contextlib.suppress(ttrpc.Lost):
            task.shutdown(hand.id)


@test(deadline=9000, vm=True)
def of_a_random_process(ctx):
    seed = int(os.environ.get("BULKHEAD_SEED") or time.time())
    rnd, before = random.Random(seed), leaks.Snapshot()
    lower = image.unpack_busybox(os.path.join(lab.work_dir(), "faultrun"))
    length, ends = 8.0, {}
    for i in range(LONG_CYCLES if ctx.long else CYCLES):
        steps, began = [], time.monotonic()
        with HandMade(ctx.containerd, ctx.new_id()) as hand:
            killer = Killer(rnd, rnd.uniform(0, length))
            try:
                live(hand, lower, steps)
                length = time.monotonic() - began
            except (Refused, ttrpc.RpcError, ttrpc.Lost, ConnectionError, FileNotFoundError) as e:
                killer.end()
                check(killer.killed, f"seed {seed}, cycle {i}, nobody was killed, after {steps}: {e!r}")
            killer.end()
            result = hand.delete()
            check_equal(result.code, 0, f"seed {seed}, cycle {i}, {killer.killed} was killed: {result}")
        leaks.assert_none(before)
        key = (killer.killed, steps[-1] if steps else "nothing")
        ends[key] = ends.get(key, 0) + 1
    if ctx.long:
        print("\n".join(f"     {n:4} times {role} was killed, after {step}"
                        for (role, step), n in sorted(ends.items(), key=str)))
        never = set(ROLES) - {"slot"} - {role for role, _ in ends}  # a slot is there for some milliseconds
        check_equal(never, set(), f"seed {seed}: never killed")
