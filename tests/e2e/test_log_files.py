"""Output into files, file:///PATH, as `ctr run --log-uri` has it; and what is refused there."""

import contextlib
import hashlib
import os
import time

from lib import image, lab
from lib.proc import Sandbox, run, wait_until
from lib.runner import Skip, check, check_contains, check_equal, each, test
from lib.shim import HandMade
from lib.ttrpc import RpcError
from test_deadlines import from_memory, shutdown, timed

# Numbers on stdout, letters on stderr: whatever is between them, each can be told from the other.
COUNT = 30000
SCRIPT = (f"seq {COUNT} | tr '\\n' , & seq {COUNT} | tr '0-9\\n' 'a-j.' >&2 & wait")


def wanted():
    numbers = "".join(f"{i}," for i in range(1, COUNT + 1))
    return numbers.encode(), numbers.translate(str.maketrans("0123456789,", "abcdefghij.")).encode()


def apart(data):
    """What of it was stdout's, and stderr's."""
    return (data.translate(None, b"abcdefghij."), data.translate(None, b"0123456789,"))


def digests(parts):
    return [(len(p), hashlib.sha256(p).hexdigest()) for p in parts]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def process(*args):
    return {"args": list(args), "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}


@contextlib.contextmanager
def log_dir(ctx):
    """A directory beneath log_prefix, with a name that a URI must write otherwise."""
    path = os.path.join(lab.work_dir(), f"logs of {ctx.new_id()}")
    os.makedirs(path)
    try:
        yield path
    finally:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)


def uri(path):
    return "file://" + path.replace(" ", "%20")


@test()
def ctr_writes_both_streams_to_one_file(ctx):
    with log_dir(ctx) as d:
        path = os.path.join(d, "log")
        result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", SCRIPT,
                                       options=("--log-uri", uri(path)))
        check_equal((result.code, result.out), (0, b""), result)
        check_equal(digests(apart(read(path))), digests(wanted()))


@test(vm=True)
def a_file_is_made_for_root_alone_and_appended_to(ctx):
    """By the init, after it by an exec, after both by a second exec; the file of before is kept."""
    with log_dir(ctx) as d, HandMade(ctx.containerd, ctx.new_id(),
                                     cmd=["/bin/sh", "-c", "echo init; exec sleep 100000"]) as hand:
        path, other = os.path.join(d, "log"), os.path.join(d, "other")
        with open(other, "wb") as f:
            f.write(b"before\n")
        os.chmod(other, 0o644)
        hand.start()
        task = hand.task()
        task.create(hand.id, hand.bundle, hand.overlay(), stdout=uri(path), stderr=uri(path))
        check_equal(task.state(hand.id)["status"], 1)
        task.start(hand.id)
        for i, script in enumerate(("echo one; echo two >&2", SCRIPT)):
            # the second one's streams are in another file, and one of them nowhere
            out, err = (uri(path), uri(path)) if i == 0 else (uri(other), "")
            task.exec(hand.id, f"e{i}", process("sh", "-c", script), stdout=out, stderr=err)
            task.start(hand.id, f"e{i}")
            check_equal(task.wait(hand.id, f"e{i}"), 0)
            task.delete(hand.id, f"e{i}")
        check_equal(sorted(read(path).splitlines()), [b"init", b"one", b"two"])
        check_equal(os.stat(path).st_mode & 0o7777, 0o600)
        check_equal(digests([read(other)]), digests([b"before\n" + wanted()[0]]))
        check_equal(os.stat(other).st_mode & 0o7777, 0o644)
        task.kill(hand.id)
        check_equal(task.wait(hand.id), 137)
        task.delete(hand.id)
        hand.end(task)


def bad_files(d):
    """{what it is: (URI, words of the sentence)}"""
    outside = f"/var/tmp/{os.path.basename(d).replace(' ', '-')}"
    with open(os.path.join(d, "theirs"), "w") as f:
        os.fchown(f.fileno(), 1000, 1000)
    open(os.path.join(d, "linked"), "w").close()
    os.link(os.path.join(d, "linked"), os.path.join(d, "linked too"))
    os.symlink("/etc/passwd", os.path.join(d, "link"))
    os.mkfifo(os.path.join(d, "fifo"))
    return {
        "outside": (f"file://{outside}", "log_prefix"),
        "a job of cron": ("file:///etc/cron.d/x", "log_prefix"),
        "among containerd's FIFOs": ("file:///run/containerd/fifo/log", "log_prefix"),
        "..": (uri(d) + "/../../../../etc/cron.d/x", "without '.', '..'"),
        "%2e%2e": (uri(d) + "/%2e%2e/%2e%2e/etc/cron.d/x", "without '.', '..'"),
        "somebody's": (uri(d) + "/theirs", "belongs to uid 1000"),
        "of two names": (uri(d) + "/linked", "2 names"),
        "a link": (uri(d) + "/link", "symbolic link"),
        "a FIFO": (uri(d) + "/fifo", "is a FIFO"),
        "a directory": (uri(d), "is a directory"),
        "no path": ("file://log", "not an absolute path"),
    }


def check_refused(what, sentence, *words):
    try:
        what()
        raise AssertionError(f"it was taken, and not: {words}")
    except RpcError as e:
        check_equal(e.name, "InvalidArgument", e)
        check_contains(e.message, sentence, *words)


@test(vm=True, deadline=180)
def a_file_that_is_none_of_ours(ctx):
    """Of an exec, each in its turn: the exec can be deleted, the next one is unaffected. (E18)"""
    passwd = read("/etc/passwd")
    with log_dir(ctx) as d, HandMade(ctx.containerd, ctx.new_id()) as hand:
        hand.start()
        task = hand.task()
        task.create(hand.id, hand.bundle, hand.overlay())
        task.start(hand.id)
        for name, (bad, words) in bad_files(d).items():
            task.exec(hand.id, "e", process("echo", "written"), stdout=bad)
            check_refused(lambda: task.start(hand.id, "e"), "open stdio: stdout '", words)
            task.delete(hand.id, "e")
        task.exec(hand.id, "e", process("echo", "written"), stdout=uri(d) + "/good")
        task.start(hand.id, "e")
        check_equal(task.wait(hand.id, "e"), 0)
        task.delete(hand.id, "e")
        check_equal(read(os.path.join(d, "good")), b"written\n")
        check_equal((os.path.getsize(os.path.join(d, "theirs")), os.path.getsize(os.path.join(d, "linked"))), (0, 0))
        check(read("/etc/passwd") == passwd and not os.path.exists("/etc/cron.d/x"), "something else was written")
        task.kill(hand.id)
        task.wait(hand.id)
        task.delete(hand.id)
        hand.end(task)


@each([("file", "file:///etc/cron.d/x", "log_prefix"), ("binary", "binary://{script}?a=b", "binary://' is not supported"),
       ("unknown", "gopher://host/log", "gopher://' is not supported")], vm=True)
def create_is_refused(ctx, kind, bad, words):
    """Nothing is left, and what it names is not executed. (E18, E19)"""
    with log_dir(ctx) as d, HandMade(ctx.containerd, ctx.new_id()) as hand:
        script, trace = os.path.join(d, "logger").replace(" ", "%20"), os.path.join(d, "executed")
        with open(os.path.join(d, "logger"), "w") as f:
            f.write(f"#!/bin/sh\n: > '{trace}'\n")
        os.chmod(os.path.join(d, "logger"), 0o755)
        hand.start()
        task = hand.task()
        check_refused(lambda: task.create(hand.id, hand.bundle, hand.overlay(), stdout=bad.format(script=script)),
                      "open stdio: stdout '", words)
        task.close()
        result = hand.delete()
        check_equal(result.code, 0, result)
        check(not os.path.exists(trace), "it was executed")
        check(not os.path.exists("/etc/cron.d/x"), "a file was made")


@test(vm=True)
def nothing_is_allowed_by_default(ctx):
    """Not what FIFOs may be beneath: there are bundles and states, which containerd reads."""
    bin_dir = ctx.other_prefix(log_prefix=[])
    with log_dir(ctx) as d, HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir) as hand:
        hand.start()
        task = hand.task()
        check_refused(lambda: task.create(hand.id, hand.bundle, hand.overlay(), stdout=uri(d) + "/log"),
                      "none of the directories of log_prefix")
        task.close()
        check_equal(hand.delete().code, 0)
        check(not os.path.exists(os.path.join(d, "log")), "the file was made")


@contextlib.contextmanager
def small_disk(ctx):
    path = os.path.join(lab.work_dir(), f"disk-{ctx.new_id()}")
    os.makedirs(path)
    with open(path + ".img", "wb") as f:
        f.truncate(16 << 20)
    run(["mkfs.ext4", "-q", path + ".img"], check=True)
    mounted = run(["mount", "-o", "loop", path + ".img", path])
    if mounted.code != 0:
        raise Skip(f"no loop devices: {mounted.errtext.strip()}")
    try:
        yield path
    finally:
        run(["umount", path], check=True)
        os.unlink(path + ".img")
        os.rmdir(path)


@contextlib.contextmanager
def frozen(path):
    """Whoever writes to it waits, and no signal ends that."""
    run(["fsfreeze", "-f", path], check=True)
    try:
        yield
    finally:
        run(["fsfreeze", "-u", path], check=True)


@test(vm=True)
def a_disk_that_stands_still(ctx):
    """It holds agentd, which writes. Whoever asks is answered all the same, and when the disk goes on
    all is gone: what `delete` could not take away in time, the next `start` does."""
    forever = ["/bin/sh", "-c", "while :; do echo line; sleep 0.05; done"]
    with small_disk(ctx) as disk:
        with HandMade(ctx.containerd, ctx.new_id(), cmd=forever) as hand:
            hand.start()
            task = hand.task()
            sandbox = Sandbox(task.create(hand.id, hand.bundle, hand.overlay(), stdout=uri(disk + "/log")))
            task.start(hand.id)
            wait_until(lambda: os.path.getsize(disk + "/log") > 0, 20, "there is output")
            with frozen(disk):
                time.sleep(1)
                from_memory("State", task.state, hand.id)
                from_memory("Connect", task.connect, hand.id)
                check_equal(timed("Kill with SIGKILL", 4, task.kill, hand.id), None)
                check_equal(timed("its exit", 3, task.wait, hand.id), 137)
                check_equal(timed("Delete", 3, task.delete, hand.id)["exit_status"], 137)
                timed("Shutdown", 2.5, shutdown, hand, task)
                check_equal(timed("delete", 4, hand.delete).code, 0)
                # PID 1 of a namespace ends when the others have.
                check_equal(set(sandbox.roles()), {"agentd", "supervisor"}, "who is left")
            wait_until(sandbox.gone, 5, "all are gone")
            check_equal(set(read(disk + "/log").split()), {b"line"})
    check_equal(ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "true").code, 0)
