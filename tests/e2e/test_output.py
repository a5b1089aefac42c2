"""Output is complete and apart; input reaches its end."""

import hashlib
import os
import time

from lib import image
from lib.runner import Skip, check_equal, test
from lib.shim import HandMade
from lib.ttrpc import RpcError

MIB = 1 << 20

# busybox has no seeded generator: the same block again and again, with a counter in it.
PATTERN = """
emit() {
	awk -v tag="$1" 'BEGIN {
		for (i = 0; n < %d; i++) { line = sprintf("%%s %%07d ........................................\\n", tag, i); printf "%%s", line; n += length(line) }
	}' | head -c %d
}
emit out & emit err >&2 & wait
""" % (MIB, MIB)


def expected(tag):
    out, i = bytearray(), 0
    while len(out) < MIB:
        out += b"%s %07d ........................................\n" % (tag, i)
        i += 1
    return bytes(out[:MIB])


def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()


@test()
def a_mebibyte_on_each_stream_byte_for_byte(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", PATTERN)
    check_equal(result.code, 0, result.errtext[:300])
    check_equal(digest(result.out), digest(expected(b"out")), "stdout")
    check_equal(digest(result.err), digest(expected(b"err")), "stderr")


@test()
def every_byte_value(ctx):
    script = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done"
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", script)
    check_equal(result.out, bytes(range(256)), result)


@test()
def the_last_bytes_before_an_exit(ctx):
    """The exit may not overtake what was written just before it."""
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c",
                                   "head -c 200000 /dev/zero | tr '\\0' x; printf tail; exit 3")
    check_equal((result.code, len(result.out), result.out[-4:]), (3, 200004, b"tail"))


@test()
def no_output_at_all(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "true")
    check_equal((result.code, result.out, result.err), (0, b"", b""), result)


@test()
def without_streams(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", "echo lost; exit 4",
                                   options=("--null-io",))
    check_equal((result.code, result.out), (4, b""), result)


@test()
def input_arrives(ctx):
    data = b"line\n" * 2000
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "head", "-n", "2000", stdin=data)
    check_equal((result.code, digest(result.out)), (0, digest(data)), result.errtext)


@test()
def input_reaches_its_end(ctx):
    """By hand: `ctr run` of containerd 1.6 does not tell the shim that its input has ended."""
    with HandMade(ctx.containerd, ctx.new_id(), cmd=["wc", "-c"]) as hand:
        stdin, (stdout, reader), (stderr, _) = hand.fifo("stdin"), hand.output("stdout"), hand.output("stderr")
        hand.start()
        task = hand.task()
        task.create(hand.id, hand.bundle, hand.overlay(), stdin=stdin, stdout=stdout, stderr=stderr)
        task.start(hand.id)
        with open(stdin, "wb") as f:
            f.write(b"x" * 12345)
        try:
            task.close_io(hand.id)
        except RpcError as e:
            hand.delete()
            if e.name == "Unimplemented":
                raise Skip("the shim does not serve CloseIO") from None
            raise
        check_equal(task.wait(hand.id), 0, "wc ends at the end of its input")
        check_equal(os.read(reader, 100), b"12345\n")
        task.delete(hand.id)
        hand.end(task)


@test()
def a_reader_that_is_slow(ctx):
    """The container waits for its reader, and nothing is dropped."""
    child = ctx.containerd.popen(image.BUSYBOX, ctx.new_id(), "sh", "-c",
                                 PATTERN.replace("emit err >&2 &", ""), options=("--rm",))
    out = bytearray()
    while True:
        part = child.stdout.read1(4096)
        if not part:
            break
        out += part
        if len(out) < 64 << 10:
            time.sleep(0.02)  # far slower than the container writes
    check_equal(child.wait(30), 0, child.stderr.read())
    check_equal(digest(bytes(out)), digest(expected(b"out")), "stdout")
