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
