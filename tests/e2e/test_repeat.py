"""Again and again on one snapshot: whatever a round leaves behind adds up."""

import os

from lib import image, leaks
from lib.runner import check, check_equal, test

ROUNDS, LONG_ROUNDS = 20, 200

# The kernel counts open files for the whole machine, where others work too, and folds its
# per-CPU counts in batches: what a round leaks must show above that.
FILES_TOLERATED = 300


@test(deadline=1800)
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
    more = leaks.open_files() - files
    check(more < FILES_TOLERATED, f"{more} files more are open after {rounds} rounds")
    check_equal(c.ctr("container", "rm", cid).code, 0)
