"""Pause, Resume, Update, Stats, Kill of all, memory that runs out: seen from inside the guest."""

from lib import image, proc
from lib.containerd import Events
from lib.runner import check, check_contains, check_equal, test
from lib.ttrpc import RpcError, decode, first
from test_exec import Hand, Sleeping, process, read_all

MIB = 1 << 20


def refused(name, function, *args, **kw):
    try:
        function(*args, **kw)
    except RpcError as e:
        check_equal(e.name, name, e)
        return e.message
    raise AssertionError(f"{function.__name__}{args} was not refused")


@test()
def paused_stands_still_and_goes_on(ctx):
    with Events(ctx.containerd) as events, Sleeping(ctx) as s:
        count = "while :; do echo >> /tmp/count; sleep 0.05; done"
        s.c.ctr("task", "exec", "-d", "--exec-id", "counter", s.id, "sh", "-c", count, check=True)
        check_equal(s.c.ctr("task", "pause", s.id).code, 0)
        check_equal(s.c.task_status(s.id), "PAUSED")
        check(s.exec("true").code != 0, "an exec in a paused container")
        check_equal(s.c.ctr("task", "resume", s.id).code, 0)
        check_equal(s.c.task_status(s.id), "RUNNING")
        first_, later = (s.exec("sh", "-c", "wc -l < /tmp/count") for _ in range(2))
        check(int(later.text) > int(first_.text), f"{first_.text} {later.text}")
        s.c.ctr("task", "kill", "-s", "SIGKILL", "--exec-id", "counter", s.id)
        proc.wait_until(lambda: "/tasks/resumed" in [t for t, _ in events.of(s.id)], 5, "the event")
        check_equal([t for t, _ in events.of(s.id) if t in ("/tasks/paused", "/tasks/resumed")],
                    ["/tasks/paused", "/tasks/resumed"])


@test(vm=True)
def update_is_read_back_from_the_guest(ctx):
    with Hand(ctx) as h:
        h.task.update(h.id, {"memory": {"limit": 64 * MIB}, "pids": {"limit": 77},
                             "cpu": {"quota": 50000, "period": 100000}})
        out, reader = h.output("out")
        # its own cgroup, as the container sees it
        h.task.exec(h.id, "e", process("sh", "-c", "mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg && cd /tmp/cg && cat memory.max pids.max cpu.max; echo end",
                                       capabilities={k: ["CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}), stdout=out)
        h.task.start(h.id, "e")
        check_contains(read_all(reader, b"end", 20).decode(), str(64 * MIB), "77", "50000 100000")
        h.task.wait(h.id, "e")
        h.task.delete(h.id, "e")
        refused("InvalidArgument", h.task.update, h.id, {"memory": {"limit": "much"}})
        # What the guest's kernel does not take is an error too, and changes nothing.
        message = refused("Unknown", h.task.update, h.id, {"cpu": {"quota": 10, "period": 100}})
        check_contains(message, "update")
        kind, stats = h.task.stats(h.id)
        check(kind in ("io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics"), kind)
        memory = decode(first(stats, 4))
        limit = first(decode(first(memory, 33)), 1) if "v1" in kind else first(memory, 33)
        check_equal(limit, 64 * MIB, f"the limit in {kind}")
        h.task.update(h.id, {"memory": {"limit": 0x7ffffffffffff000}})  # cgroup v1's word for none


@test()
def memory_that_runs_out_is_told_before_the_exit(ctx):
    with Events(ctx.containerd) as events:
        c, cid = ctx.containerd, ctx.new_id()
        result = c.run_rm(image.BUSYBOX, cid, "sh", "-c", "exec tail /dev/zero", options=("--memory-limit", str(16 * MIB)))
        check_equal(result.code, 137, result)
        proc.wait_until(lambda: "/tasks/delete" in [t for t, _ in events.of(cid)], 5, "the end")
        topics = [t for t, _ in events.of(cid)]
        check("/tasks/oom" in topics, topics)
        check(topics.index("/tasks/oom") < topics.index("/tasks/exit"), topics)


@test(vm=True)
def kill_all_reaches_every_process(ctx):
    with Hand(ctx, cmd=("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")) as h:
        h.task.exec(h.id, "e", process("sh", "-c", "trap 'exit 8' TERM; >/tmp/ready; while :; do sleep 0.1; done"))
        h.task.start(h.id, "e")
        h.task.exec(h.id, "waits", process("sh", "-c", "until [ -e /tmp/ready ]; do sleep 0.1; done"))
        h.task.start(h.id, "waits")
        check_equal(h.task.wait(h.id, "waits"), 0)
        h.task.delete(h.id, "waits")
        h.task.kill(h.id, 15, every=True)
        check_equal(h.task.wait(h.id, "e"), 8)
        check_equal(h.task.state(h.id)["status"], 2, "the init ignores it")
        h.task.delete(h.id, "e")


@test(vm=True)
def what_is_refused_in_which_state(ctx):
    with Hand(ctx, start=False) as h:
        refused("FailedPrecondition", h.task.pause, h.id)
        refused("FailedPrecondition", h.task.resume, h.id)
        refused("Unimplemented", h.task.checkpoint, h.id)
        refused("NotFound", h.task.stats, "nobody")
        h.task.start(h.id)
        refused("FailedPrecondition", h.task.resume, h.id)
        h.task.kill(h.id, 9)
        check_equal(h.task.wait(h.id), 137)
        refused("NotFound", h.task.kill, h.id, 9)
        refused("FailedPrecondition", h.task.pause, h.id)
        refused("FailedPrecondition", h.task.stats, h.id)
        refused("FailedPrecondition", h.task.exec, h.id, "e", process("true"))
