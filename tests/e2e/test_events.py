"""What containerd is told: each thing once, in order, with the right status."""

from lib import image
from lib.containerd import Events
from lib.proc import wait_until
from lib.runner import check_equal, test


@test()
def create_start_exit_delete_once_each_in_order(ctx):
    with Events(ctx.containerd) as events:
        cid = ctx.new_id()
        ctx.containerd.run_rm(image.BUSYBOX, cid, "sh", "-c", "exit 7")
        wait_until(lambda: "/tasks/delete" in [t for t, _ in events.of(cid)], 5, "the delete event")
        check_equal([t for t, _ in events.of(cid)],
                    ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
        check_equal(events.statuses(cid), [7])


@test()
def the_pid_is_the_same_in_all_of_them(ctx):
    with Events(ctx.containerd) as events:
        c, cid = ctx.containerd, ctx.new_id()
        pid = c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
        c.remove(cid)
        wait_until(lambda: len(events.of(cid)) >= 4, 5, "four events")
        check_equal({e.get("pid") for _, e in events.of(cid)}, {pid})


def life(ctx, runtime):
    """{topic: [events]} of a container that is paused, resumed, and has had an exec."""
    c, cid = ctx.containerd, ctx.new_id()
    with Events(c) as events:
        c.ctr("run", "-d", "--runtime", runtime, image.BUSYBOX, cid, "sleep", "1000", check=True)
        check_equal(c.exec(cid, "e", "sh", "-c", "exit 5").code, 5)
        for verb in ("pause", "resume"):
            c.ctr("task", verb, cid, check=True)
        c.remove(cid)
        wait_until(lambda: "/tasks/delete" in [t for t, _ in events.of(cid)], 5, "the delete event")
        told = {}
        for topic, event in events.of(cid):
            told.setdefault(topic, []).append(event)
        return cid, told


@test(vm=True)
def the_fields_are_those_of_runcs(ctx):
    """All of them have a value, and what can be known of it is right."""
    cid, ours = life(ctx, "io.containerd.bulkhead.v2")
    _, runcs = life(ctx, "io.containerd.runc.v2")
    check_equal({t: [sorted(e) for e in events] for t, events in ours.items()},
                {t: [sorted(e) for e in events] for t, events in runcs.items()})
    (created,), (deleted,) = ours["/tasks/create"], ours["/tasks/delete"]
    of_exec, ended = ours["/tasks/exit"]
    check_equal((created["bundle"], [sorted(m) for m in created["rootfs"]]),
                (ctx.containerd.bundle(cid), [sorted(m) for m in runcs["/tasks/create"][0]["rootfs"]]))
    check_equal(sorted(created.get("io", ())), sorted(runcs["/tasks/create"][0].get("io", ())))
    check_equal((of_exec["id"], of_exec["exit_status"], ended["id"], ended["exit_status"]), ("e", 5, cid, 137))
    check_equal((deleted["exit_status"], deleted["exited_at"]), (137, ended["exited_at"]))
