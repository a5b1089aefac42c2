"""Further processes in a container: `ctr task exec`, and by hand what ctr does not do."""

import hashlib
import os
import random
import subprocess
import threading
import time

from lib import image, leaks, proc
from lib.containerd import Events
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, test
from lib.shim import HandMade
from lib.ttrpc import RpcError

MIB = 1 << 20


class Sleeping:
    """A container that does nothing, to exec in."""

    def __init__(self, ctx, *options):
        self.ctx, self.c, self.id = ctx, ctx.containerd, ctx.new_id()
        self.options, self.n = options, 0

    def __enter__(self):
        self.pid = self.c.run_detached(image.BUSYBOX, self.id, "sleep", "100000", options=self.options)
        return self

    def __exit__(self, *_):
        self.c.remove(self.id)

    def exec(self, *cmd, **kw):
        self.n += 1
        return self.c.exec(self.id, f"e{self.n}", *cmd, **kw)


def process(*args, **changes):
    """An OCI process."""
    return {"args": list(args), "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "user": {"uid": 0, "gid": 0},
            **changes}


@test()
def output_status_and_both_streams(ctx):
    with Sleeping(ctx) as s:
        result = s.exec("sh", "-c", "echo out; echo err >&2; exit 7")
        check_equal((result.code, result.out, result.err), (7, b"out\n", b"err\n"), result)
        check_equal(s.exec("true").code, 0)
        check_equal(s.exec("sh", "-c", "kill -9 $$").code, 137, "killed by itself")


@test()
def it_is_in_the_container(ctx):
    with Sleeping(ctx, "--env", "WORD=init") as s:
        result = s.exec("sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; cat /proc/1/cgroup", options=("--cwd", "/tmp"))
        check_contains(result.text, "sleep 100000")
        check_equal(s.exec("pwd", options=("--cwd", "/tmp")).text, "/tmp\n")
        check_equal(s.exec("sh", "-c", "echo $WORD; id -u", options=("--user", "1000")).text, "init\n1000\n")


@test()
def a_command_that_is_not_there(ctx):
    with Sleeping(ctx) as s:
        result = s.exec("/no/such/command")
        check(result.code not in (0, None), result)
        check_contains(result.errtext, "/no/such/command")
        check_equal(s.exec("echo", "after").text, "after\n", "the next one")


@test(vm=True)
def events_in_order_with_all_fields(ctx):
    with Events(ctx.containerd) as events, Sleeping(ctx) as s:
        s.exec("sh", "-c", "exit 3")
        proc.wait_until(lambda: len(events.of_exec(s.id, "e1")) >= 3, 5, "three events")
        got = events.of_exec(s.id, "e1")
        check_equal([t for t, _ in got], ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"])
        added, started, ended = (e for _, e in got)
        check_equal((added["container_id"], added["exec_id"]), (s.id, "e1"))
        check_equal((started["container_id"], started["exec_id"], started["pid"]), (s.id, "e1", s.pid))
        check_equal((ended["container_id"], ended["id"], ended["pid"], ended["exit_status"]),
                    (s.id, "e1", s.pid, 3))
        check(ended.get("exited_at"), "no time of the exit")


@test()
def input_reaches_its_end(ctx):
    with Sleeping(ctx) as s:
        data = random.Random(1).randbytes(300000)
        result = s.exec("sha256sum", stdin=data)
        check_equal(result.text.split()[0], hashlib.sha256(data).hexdigest(), result)


@test()
def every_byte_value_both_ways(ctx):
    data = bytes(range(256)) * 64
    with Sleeping(ctx) as s:
        check_equal(s.exec("cat", stdin=data).out, data)


@test(deadline=240)
def many_at_once(ctx):
    """Each of 24 has its own output and status."""
    results = {}

    def one(s, i):
        results[i] = s.c.exec(s.id, f"many{i}", "sh", "-c", f"echo {i}; echo e{i} >&2; exit {i}", deadline=120)

    with Sleeping(ctx) as s:
        threads = [threading.Thread(target=one, args=(s, i)) for i in range(24)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for i, r in results.items():
            check_equal((r.code, r.text, r.errtext), (i, f"{i}\n", f"e{i}\n"), r)
        check_equal(len(results), 24)


def held_by(pid):
    """{role: (fds, KiB of its own, KiB of PSS)}, where the shim is one that has roles."""
    try:
        sandbox = Sandbox(pid)
    except AssertionError:
        return {}
    pss = {role: proc.pss_kib(p) for role, p in sandbox.roles().items()}
    return {role: (*values, pss[role]) for role, values in leaks.held(sandbox).items()}


def check_held(before, after, count, seconds, show):
    """Whatever the number of execs: the same fds, and the memory of before."""
    table = "\n".join(f"     {role:<12} {fds:3} -> {after[role][0]:3} fds, {own:5} -> {after[role][1]:5} KiB of its own, "
                      f"{pss:5} -> {after[role][2]:5} KiB PSS" for role, (fds, own, pss) in before.items())
    if show:
        print(f"     {count} execs in {seconds:.0f} s\n{table}", flush=True)
    for role, (fds, own, _) in before.items():
        check(after[role][0] == fds and after[role][1] <= own + 256, f"{role} holds more\n{table}")


@test(deadline=9000)
def short_ones_byte_for_byte(ctx):
    """Output of 0 to 256 KiB is complete when the exit is told; none of them leaves anything behind."""
    rnd, count, warm = random.Random(7), 10000 if ctx.long else 20, 10
    with Sleeping(ctx) as s:
        made = s.exec("sh", "-c", "head -c 262144 /dev/urandom > /tmp/blob; sha256sum /tmp/blob; cat /tmp/blob")
        blob = made.out[made.out.index(b"\n") + 1:]
        check_equal(hashlib.sha256(blob).hexdigest(), made.out.split()[0].decode(), "the blob")
        for i in range(count):
            if i == warm:
                began, before = time.monotonic(), held_by(s.pid)
            size, status = rnd.choice((0, 1, 4095, 4096, 4097, 65536, rnd.randint(0, 262144))), rnd.randint(0, 255)
            r = s.exec("sh", "-c", f"head -c {size} /tmp/blob; exit {status}")
            check(r.code == status and r.out == blob[:size],
                  f"number {i}: status {r.code}, not {status}; {len(r.out)} bytes, not {size}: {r.errtext}")
        time.sleep(0.5)  # the last one's streams are closed when its exit has been told
        check_held(before, held_by(s.pid), count - warm, time.monotonic() - began, ctx.long)


@test(deadline=1800)
def a_lot_through_cat(ctx):
    """Stdin to stdout, hashed on both sides."""
    size = 1024 * MIB if ctx.long else 24 * MIB
    piece = random.Random(3).randbytes(MIB)
    sent, got = hashlib.sha256(), hashlib.sha256()
    with Sleeping(ctx) as s:
        child = subprocess.Popen(s.c.exec_argv(s.id, "cat", "cat"), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def feed():
            for i in range(size // MIB):
                part = i.to_bytes(8, "big") + piece[8:]
                sent.update(part)
                child.stdin.write(part)
            child.stdin.close()

        thread = threading.Thread(target=feed)
        thread.start()
        n = 0
        while part := child.stdout.read1(MIB):
            got.update(part)
            n += len(part)
        thread.join()
        check_equal(child.wait(60), 0, child.stderr.read())
        check_equal((n, got.hexdigest()), (size, sent.hexdigest()))


@test()
def one_that_is_idle_still_answers(ctx):
    """No time-out on a stream: 2 minutes in the long run."""
    with Sleeping(ctx) as s:
        child = subprocess.Popen(s.c.exec_argv(s.id, "idle", "cat"), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(121 if ctx.long else 5)
        child.stdin.write(b"still here\n")
        child.stdin.flush()
        check_equal(child.stdout.readline(), b"still here\n")
        child.stdin.close()
        check_equal(child.wait(30), 0)


@test(vm=True)
def a_daemon_that_keeps_stdout_does_not_keep_the_exit(ctx):
    with Sleeping(ctx) as s:
        began = time.monotonic()
        result = s.exec("sh", "-c", "sleep 1000 & echo started; exit 4", deadline=30)
        check_equal((result.code, result.out), (4, b"started\n"), result)
        check(time.monotonic() - began < 15 * proc.patience, "it took more than 15 s")


@test()
def killed_by_a_signal(ctx):
    with Sleeping(ctx) as s:
        child = subprocess.Popen(s.c.exec_argv(s.id, "k", "sh", "-c",
                                               "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"),
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check_equal(child.stdout.readline(), b"ready\n")
        check_equal(s.c.ctr("task", "kill", "-s", "SIGTERM", "--exec-id", "k", s.id).code, 0)
        check_equal(child.wait(30 * proc.patience), 9, child.stderr.read())
        check_equal(s.c.task_status(s.id), "RUNNING", "the container")


@test()
def it_ends_with_its_container(ctx):
    with Sleeping(ctx) as s:
        child = subprocess.Popen(s.c.exec_argv(s.id, "ends", "sleep", "1000"), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        proc.wait_until(lambda: "ends" in s.c.ctr("task", "ps", s.id).text, 20, "the exec is listed", poll=0.1)
        s.c.task_kill(s.id)
        check_equal(child.wait(30 * proc.patience), 137, child.stderr.read())
        s.c.wait_stopped(s.id)


class Hand:
    """A shim driven by hand with a container that sleeps, or waits for its Start."""

    def __init__(self, ctx, start=True, cmd=("/bin/sleep", "100000"), spec=None, made=None, **create):
        """spec changes the spec; made: of HandMade, create: of Create."""
        self.hand = HandMade(ctx.containerd, ctx.new_id(), cmd=cmd, **made or {})
        if spec:
            spec(self.hand.spec)
            self.hand.write_spec()
        self.start, self.create, self.n = start, create, 0

    def __enter__(self):
        h = self.hand.__enter__()
        h.start()
        self.task, self.id = h.task(), h.id
        h.pid = self.task.create(h.id, h.bundle, h.overlay(), **self.create)
        if self.start:
            self.task.start(h.id)
        return self

    def __exit__(self, kind, value, tb):
        try:
            if kind is None:
                self.over()
        finally:
            self.hand.__exit__(kind, value, tb)

    def over(self):
        if self.task.state(self.id)["status"] != 3:
            self.task.kill(self.id, 9, every=True)
            self.task.wait(self.id)
        self.task.delete(self.id)
        self.hand.end(self.task)

    def output(self, name):
        return self.hand.output(name)


def read_all(fd, until, seconds=10):
    """What a FIFO's reader sees until it contains this."""
    out, end = b"", time.monotonic() + seconds * proc.patience
    while until not in out and time.monotonic() < end:
        try:
            out += os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.01)
    check(until in out, f"{until!r} did not come; {out!r} did")
    return out


@test(vm=True)
def close_io_is_idempotent_and_never_blocks(ctx):
    with Hand(ctx) as h:
        stdin, (stdout, reader) = h.hand.fifo("in"), h.output("out")
        h.task.exec(h.id, "e", process("wc", "-c"), stdin=stdin, stdout=stdout)
        h.task.start(h.id, "e")
        with open(stdin, "wb") as f:
            f.write(b"x" * 4321)
            f.flush()
            for _ in range(3):
                h.task.close_io(h.id, "e")
            # its last writer is still there
            check_equal(h.task.state(h.id, "e")["status"], 2)
            f.write(b"y")
        check_equal(h.task.wait(h.id, "e"), 0)
        read_all(reader, b"4322\n")
        h.task.close_io(h.id, "e")
        check_equal(h.task.delete(h.id, "e")["exit_status"], 0)


@test(vm=True)
def close_io_before_start(ctx):
    with Hand(ctx) as h:
        stdin, (stdout, reader) = h.hand.fifo("in"), h.output("out")
        h.task.exec(h.id, "e", process("wc", "-c"), stdin=stdin, stdout=stdout)
        h.task.close_io(h.id, "e")
        fd = os.open(stdin, os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, b"12345")
        h.task.start(h.id, "e")
        os.close(fd)
        check_equal(h.task.wait(h.id, "e"), 0)
        read_all(reader, b"5\n")
        h.task.delete(h.id, "e")


@test(vm=True)
def an_input_that_is_at_its_end_at_once(ctx):
    """By hand: ctr 1.6 may have seen the end of its input before it is ready to tell of it."""
    with Hand(ctx) as h:
        stdin, (stdout, reader) = h.hand.fifo("in"), h.output("out")
        h.task.exec(h.id, "e", process("sh", "-c", "cat; echo end"), stdin=stdin, stdout=stdout)
        h.task.start(h.id, "e")
        h.task.close_io(h.id, "e")
        check_equal(h.task.wait(h.id, "e"), 0)
        read_all(reader, b"end")
        h.task.delete(h.id, "e")


@test(vm=True)
def without_any_stream(ctx):
    with Hand(ctx) as h:
        h.task.exec(h.id, "e", process("sh", "-c", "cat; exit 5"))
        h.task.start(h.id, "e")
        check_equal(h.task.wait(h.id, "e"), 5, "no stdin is the end of stdin")
        h.task.delete(h.id, "e")


BAD_PROCESSES = {
    "empty": b"", "no JSON": b"{", "no object": b"[]", "no arguments": b'{"cwd":"/"}',
    "deep": b'{"args":' + b"[" * 40 + b"]" * 40 + b',"cwd":"/"}',
    "large": b'{"args":["true"],"cwd":"/","env":["A=' + b"x" * 300000 + b'"]}'}


@test(vm=True)
def a_bad_process_is_refused(ctx):
    with Hand(ctx) as h:
        for name, data in BAD_PROCESSES.items():
            try:
                h.task.exec(h.id, "e", data)
                raise AssertionError(f"{name}: it was taken")
            except RpcError as e:
                check_equal(e.name, "InvalidArgument", f"{name}: {e}")
                check_contains(e.message, "exec e in")
        h.task.exec(h.id, "e", process("true"))
        h.task.start(h.id, "e")
        check_equal(h.task.wait(h.id, "e"), 0, "the next of the same id")
        h.task.delete(h.id, "e")


@test(vm=True)
def a_large_process(ctx):
    """In parts over the channel: 200 KiB of environment arrive."""
    env = [f"V{i}=" + "x" * 1000 for i in range(200)]
    with Hand(ctx) as h:
        stdout, reader = h.output("out")
        h.task.exec(h.id, "e", process("sh", "-c", "env | grep -c ^V", env=["PATH=/bin", *env]), stdout=stdout)
        h.task.start(h.id, "e")
        check_equal(h.task.wait(h.id, "e"), 0)
        read_all(reader, b"200\n")
        h.task.delete(h.id, "e")


def shown(processes):
    """[(exec id or "-", command)] of what Pids shows; the pids are the guest's."""
    [(_, text)] = processes
    lines = [line.split(" ", 2) for line in text.split("\n")]
    check(all(pid.isdigit() for pid, _, _ in lines), text)
    check_equal(len({pid for pid, _, _ in lines}), len(lines), text)
    return [(eid, command) for _, eid, command in lines]


@test(vm=True)
def pids_shows_what_runs(ctx):
    with Hand(ctx, cmd=("/bin/sh", "-c", "sleep 1001 & sleep 1002; :")) as h:
        h.task.exec(h.id, "one", process("sleep", "1003"))
        h.task.start(h.id, "one")
        h.task.exec(h.id, "two", process("sh", "-c", "sleep 1004; :", "\x1b[31m\n1 - fake", "x" * 200))
        h.task.start(h.id, "two")
        h.task.exec(h.id, "added", process("true"))
        two = "sh -c sleep 1004; : [31m 1 - fake "
        wanted = [("-", "/bin/sh -c sleep 1001 & sleep 1002; :"), ("one", "sleep 1003"), ("two", two.ljust(125, "x") + "..."),
                  ("-", "sleep 1001"), ("-", "sleep 1002"), ("-", "sleep 1004")]
        for _ in range(50):
            said = shown(h.task.processes(h.id))
            if sorted(said) == sorted(wanted):
                break
            time.sleep(0.1)
        check_equal(said[0], wanted[0], "the init first")
        check_equal(sorted(said), sorted(wanted))
        check_equal(h.task.pids(h.id), [h.hand.pid])
        h.task.pause(h.id)
        check_equal(h.task.processes(h.id), [(h.hand.pid, "two one")], "paused")
        h.task.resume(h.id)
        for eid in ("one", "two"):
            h.task.kill(h.id, 9, eid)
            check_equal(h.task.wait(h.id, eid), 137)
            h.task.delete(h.id, eid)
        check_equal({eid for eid, _ in shown(h.task.processes(h.id))}, {"-"})
        h.task.delete(h.id, "added")


@test(vm=True)
def pids_of_very_many(ctx):
    """As many as fit are shown, the execs first, and the rest is counted."""
    with Hand(ctx) as h:
        h.task.exec(h.id, "crowd", process(
            "sh", "-c", "mkfifo /f; exec 3<>/f; i=0; while [ $i -lt 150 ]; do (read x <&3) & i=$((i + 1)); done; touch /all; wait",
            "x" * 200))
        h.task.start(h.id, "crowd")
        h.task.exec(h.id, "until", process("sh", "-c", "until [ -e /all ]; do sleep 0.1; done"))
        h.task.start(h.id, "until")
        check_equal(h.task.wait(h.id, "until", deadline=60), 0)
        h.task.delete(h.id, "until")
        [(pid, text)] = h.task.processes(h.id)
        lines = text.split("\n")
        check_equal(pid, h.hand.pid)
        check_contains(lines[1], " crowd sh -c ")
        check(100 < len(lines) < 150 and len(text) < 16384, f"{len(lines)} lines, {len(text)} bytes")
        check_equal(lines[-1], f"- - ({152 - (len(lines) - 1)} more)")
        h.task.kill(h.id, 9, "crowd")
        check_equal(h.task.wait(h.id, "crowd"), 137)
        h.task.delete(h.id, "crowd")


@test(vm=True)
def ctr_shows_what_runs(ctx):
    with Sleeping(ctx) as s:
        ps = s.c.ctr("task", "ps", s.id)
        check_equal(ps.code, 0, ps)
        check_contains(ps.text, str(s.pid))
        check_contains(ps.text, "- sleep 100000")
