"""Each call of the task service in each state, beside containerd's shim for runc: README.md.

With BULKHEAD_GOLDEN_UPDATE set the page is written instead of compared.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from lib import image, lab, proc, stage
from lib.runner import check_equal, test
from lib.shim import HandMade
from lib.ttrpc import STATUS, TASK, Lost, RpcError, encode
from test_exec import process

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "README.md")
STATES = ("unknown", "created", "running", "paused", "stopped", "deleted")
SLEEP = ("/bin/sleep", "100000")

# What runc's shim answers otherwise: (its answer, why ours differs, {(of, call): states}). By hand; every
# difference is in here, and nothing else.
REASONS = (
    ("Unknown", "It hands on what runc has said, whatever that was. Ours says of which kind the refusal is, so that a "
     "client can tell it from a failure.",
     {("container", "Exec"): "paused stopped", ("container", "Resume"): "created running stopped",
      ("container", "Pause"): "created paused stopped", ("container", "Start"): "running paused stopped",
      ("container", "Update"): "stopped", ("container", "Create"): "created running paused stopped",
      ("container", "Delete"): "running paused", ("exec", "CloseIO"): "unknown deleted",
      ("exec", "Start"): "running paused stopped", ("exec", "Delete"): "running paused"}),
    ("Unknown", "A process without a terminal has no size: nothing is to be done, in whichever state it is.",
     {("exec", "ResizePty"): "stopped"}),
    ("Unknown", "It tries, and nobody can write where it is told to. Ours never does it, and says that.",
     {("container", "Checkpoint"): "created running paused stopped"}),
    ("NotFound", "What is never done is not done for anybody.", {("container", "Checkpoint"): "unknown deleted"}),
    ("ok", "It does not look for the container. containerd asks this to learn whether a task still is.",
     {("container", "Connect"): "unknown deleted"}),
    ("ok: 0 of them", "containerd 1.7 takes an empty list for a shim that has lost its task, and drops its exit status.",
     {("container", "Pids"): "stopped"}),
    ("ok", "The host's cgroup is there until Delete; the guest counts what runs.", {("container", "Stats"): "stopped"}),
    ("ok: status 0, then gone", "It never ran; 0 would say that it had succeeded.",
     {("container", "Delete"): "created", ("exec", "Delete"): "created"}),
    ("ok", "A process that cgroup v1 has frozen dies when it is resumed, one that v2 has at once. The guest has v2.",
     {("exec", "Kill"): "paused", ("exec", "Kill all"): "paused"}),
)


class Shim:
    """One shim whose first container stays, while others of its pod are what is asked about."""

    def __init__(self, ctx, name, bin_dir):
        self.hand = HandMade(ctx.containerd, f"{ctx.new_id()}-{name}", bin_dir=bin_dir, cmd=SLEEP, shim=name)
        self.n, self._home, self.lower = 0, None, image.unpack_busybox(os.path.join(self.hand.dir, "lower"))

    def __enter__(self):
        self.hand.__enter__()
        self.hand.start()
        self.task = self.hand.task()
        self.task.create(self.hand.id, self.hand.bundle, self.hand.overlay(self.lower))
        self.task.start(self.hand.id)
        return self

    def home(self):
        """A container that runs, for execs."""
        if not self._home:
            self._home = Subject(self, "running", False)
        return self._home.id

    def __exit__(self, kind, value, tb):
        # runc's shim has mounted in our mount namespace, and what it refused it may have left there
        with open("/proc/self/mounts") as f:
            for target in [l.split()[1] for l in f if l.split()[1].startswith(self.hand.dir)]:
                subprocess.run(["umount", "-l", target], check=False)
        self.hand.__exit__(kind, value, tb)

    def end_of_all(self):
        """Shutdown when nothing is left; then `delete`, as containerd has it."""
        self._home.dispose()
        self.task.kill(self.hand.id)
        self.task.wait(self.hand.id)
        self.task.delete(self.hand.id)
        said = outcome(lambda: self.task.shutdown(self.hand.id))
        try:
            proc.wait_until(lambda: not self.answers(), 5, "the shim ends")
            said += ", and the shim ends"
        except AssertionError:
            said += ", and the shim stays"
        self.task.close()
        self.hand.delete()
        return said

    def answers(self):
        try:
            self.hand.task().close()
            return True
        except OSError:
            return False


class Subject:
    """A container, or an exec in one, that has been brought into a state."""

    def __init__(self, shim, state, is_exec):
        shim.n += 1
        self.shim, self.task, self.is_exec, self.eid = shim, shim.task, is_exec, ""
        if is_exec:
            self.id, self.eid = shim.home(), f"e{shim.n}"
        else:
            self.id = f"{shim.hand.id}-{shim.n}"
            self.bundle, self.rootfs = shim.hand.sibling(self.id, SLEEP, shim.lower)
        if state != "unknown":
            self.reach(state)
        self.state = self.status()

    def create(self):
        self.task.create(self.id, self.bundle, self.rootfs)

    def reach(self, state):
        if self.is_exec:
            self.task.exec(self.id, self.eid, process("sleep", "100000"))
        else:
            self.create()
        if state == "created":
            return
        self.task.start(self.id, self.eid)
        if state == "paused":
            self.task.pause(self.id)
        elif state != "running":
            self.task.kill(self.id, 9, self.eid)
            self.task.wait(self.id, self.eid)
            if state == "deleted":
                self.task.delete(self.id, self.eid)

    def status(self):
        try:
            return STATUS[self.task.state(self.id, self.eid)["status"]]
        except RpcError as e:
            if e.name != "NotFound":
                raise
            return "gone"

    def wait(self):
        """On a connection of its own: it may not be answered."""
        other = self.shim.hand.task()
        try:
            other.send(TASK, "Wait", encode((1, self.id), (2, self.eid)))
            other.sock.settimeout(0.5 * proc.patience)
            other.receive()
            return "at once"
        except TimeoutError:
            return "waits"
        finally:
            other.close()

    def goes_back(self, now):
        """What Pause and Resume have changed they change back."""
        if (self.state, now) == ("running", "paused"):
            self.task.resume(self.id)
        elif (self.state, now) == ("paused", "running"):
            self.task.pause(self.id)
        return self.status() == self.state

    def dispose(self):
        """Whatever state it is in. What takes a signal will end."""
        outcome(lambda: self.task.resume(self.id))
        if outcome(lambda: self.task.kill(self.id, 9, self.eid)) == "ok":
            self.task.wait(self.id, self.eid)
        outcome(lambda: self.task.delete(self.id, self.eid))


def exit_status(reply):
    return f"status {reply['exit_status']}"


# (name, call, of an exec too). What may change the subject's state comes last; a subject that is
# as before is asked the next.
CALLS = (
    ("State", lambda s: STATUS[s.task.state(s.id, s.eid)["status"]], True),
    ("Connect", lambda s: s.task.connect(s.id) and None, False),
    ("Pids", lambda s: f"{len(s.task.pids(s.id))} of them", False),
    ("Stats", lambda s: s.task.stats(s.id) and None, False),
    ("Wait", Subject.wait, True),
    ("ResizePty", lambda s: s.task.resize(s.id, 80, 24, s.eid), True),
    ("CloseIO", lambda s: s.task.close_io(s.id, s.eid), True),
    ("Update", lambda s: s.task.update(s.id, {"memory": {"limit": 64 << 20}}), False),
    ("Checkpoint", lambda s: s.task.checkpoint(s.id), False),
    ("Shutdown", lambda s: s.task.shutdown(s.id), False),
    ("Exec", lambda s: s.task.exec(s.id, s.eid or "other", process("sleep", "100000")), True),
    ("Resume", lambda s: s.task.resume(s.id), False),
    ("Pause", lambda s: s.task.pause(s.id), False),
    ("Start", lambda s: s.task.start(s.id, s.eid) and None, True),
    ("Kill", lambda s: s.task.kill(s.id, 9, s.eid), True),
    ("Kill all", lambda s: s.task.kill(s.id, 9, s.eid, every=True), True),
    ("Create", Subject.create, False),
    ("Delete", lambda s: exit_status(s.task.delete(s.id, s.eid)), True),
)


def outcome(call):
    try:
        said = call()
    except RpcError as e:
        return e.name
    return f"ok: {said}" if said else "ok"


def settled(name, subject):
    """A signal takes effect some time after the answer."""
    if name.startswith("Kill") and subject.state not in ("stopped", "gone"):
        try:
            proc.wait_until(lambda: subject.status() != subject.state, 2, "it ends", poll=0.05)
        except AssertionError:
            pass
    return subject.status()


def measure_state(shim, state, is_exec):
    """{call: what it answers and does}"""
    out, subject = {}, None
    for name, call, of_exec in CALLS:
        if is_exec and not of_exec:
            continue
        subject = subject or Subject(shim, state, is_exec)
        said, now = outcome(lambda: call(subject)), settled(name, subject)
        out[name] = said if now == subject.state else f"{said}, then {now}"
        if not subject.goes_back(now):
            subject.dispose()
            subject = None
    if subject:
        subject.dispose()
    return out


def measure(ctx, name, bin_dir):
    """{(of, call, state): cell}"""
    cells = {}
    with Shim(ctx, name, bin_dir) as shim:
        for of, is_exec in (("container", False), ("exec", True)):
            for state in STATES:
                for call, said in measure_state(shim, state, is_exec).items():
                    cells[of, call, state] = said
        cells["container", "Shutdown", "deleted"] = shim.end_of_all()
    return cells


def table(of, cells, numbers):
    yield "| | " + " | ".join(STATES) + " |"
    yield "|---" * (len(STATES) + 1) + "|"
    for call in [name for name, _, of_exec in CALLS if of_exec or of == "container"]:
        row = [(of, call, state) for state in STATES]
        yield f"| {call} | " + " | ".join(cells[k] + (f" [{numbers[k]}]" if k in numbers else "") for k in row) + " |"


def page(cells, numbers):
    return [
        "# Every call in every state", "",
        "Written by the test `rpc_table` (`BULKHEAD_GOLDEN_UPDATE=1 tests/e2e/run rpc_table`), which makes each call to this shim and to",
        "`containerd-shim-runc-v2` in the same run, and fails when an answer is not the one below. What runs is `sleep`; signals are SIGKILL;",
        "*then* is what State says afterwards, where that has changed. Shutdown is asked while another container of the pod lives, and",
        "at *deleted* when it was the last. Where a cell has no number runc's shim answers the same.", "",
        "## A container", "", *table("container", cells, numbers), "",
        "## An exec", "", "In a running container; *paused*: that one is.", "", *table("exec", cells, numbers), "",
        "## What runc's shim answers otherwise", "",
        *[f"{i + 1}. `{answer}`. {why}" for i, (answer, why, _) in enumerate(REASONS)]]


def measure_both(ctx):
    """(ours, theirs). What REASONS explains are the answers of 1.6; a newer one is not asked: its shim ends
    before the last call."""
    if " 1.6." not in proc.run(["containerd", "--version"], check=True).text:
        return measure(ctx, ctx.shim, ctx.bin_dir), None
    with ThreadPoolExecutor() as both:
        theirs = both.submit(measure, ctx, "foo", stage.make_foo(os.path.join(lab.work_dir(), "runc")))
        ours = measure(ctx, ctx.shim, ctx.bin_dir)
    return ours, theirs.result()


@test(vm=True, deadline=300)
def every_call_in_every_state(ctx):
    ours, theirs = measure_both(ctx)
    explained = {(of, call, state): (i + 1, answer) for i, (answer, _, where) in enumerate(REASONS)
                 for (of, call), states in where.items() for state in states.split()}
    text = page(ours, {key: number for key, (number, _) in explained.items()})
    if os.environ.get("BULKHEAD_GOLDEN_UPDATE"):
        with open(PAGE, "w") as f:
            f.write("\n".join(text) + "\n")
    if theirs:
        check_equal({key: theirs[key] for key in ours if ours[key] != theirs[key]},
                    {key: answer for key, (_, answer) in explained.items()}, "runc's answers that differ")
    with open(PAGE) as f:
        there = f.read().splitlines()
    check_equal([line for line in text if line not in there], [line for line in there if line not in text],
                "what was measured, and not what the page has")
