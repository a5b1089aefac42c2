"""Terminals: size, keys that are signals, and what hangs up. The client's own terminal is a pty."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
import tty

from lib import image, proc
from lib.runner import check, check_contains, check_equal, each, test
from test_exec import Hand, Sleeping, process, read_all


class Terminal:
    """A child of ours on a pty of this size."""

    def __init__(self, argv, width=100, height=30):
        self.master, slave = pty.openpty()
        self.resize(width, height)
        tty.setraw(slave)
        # ctr keeps OPOST on its terminal, whatever "raw" means elsewhere: the \n would get a \r here.
        modes = termios.tcgetattr(slave)
        modes[1] &= ~termios.ONLCR
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self.child = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=subprocess.PIPE,
                                      start_new_session=True,
                                      preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.seen = b""

    def resize(self, width, height):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def until(self, text, seconds=40):
        """Reads until this has come, and returns all since the last call."""
        end = time.monotonic() + seconds * proc.patience
        while text not in self.seen:
            left = end - time.monotonic()
            check(left > 0, f"{text!r} did not come, {self.seen!r} did")
            if select.select([self.master], [], [], min(left, 1))[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        check(text in self.seen, f"{text!r} did not come, {self.seen!r} did")
        at = self.seen.index(text) + len(text)
        out, self.seen = self.seen[:at], self.seen[at:]
        return out

    def type(self, keys):
        os.write(self.master, keys)

    def end(self, seconds=30):
        code = self.child.wait(seconds * proc.patience)
        os.close(self.master)
        self.child.stderr.close()
        return code


@test()
def size_keys_and_status_of_an_init(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    t = Terminal(c.run_argv(image.BUSYBOX, cid, "sh", options=("--rm", "-t")), 100, 30)
    t.until(b"# ")
    t.type(b"tty; stty size\n")
    t.until(b"30 100")
    t.resize(77, 22)
    t.child.send_signal(28)  # SIGWINCH
    time.sleep(2 * proc.patience)
    t.type(b"stty size\n")
    t.until(b"22 77")
    t.type(b"sleep 1000\n")
    t.until(b"sleep 1000")
    time.sleep(1 * proc.patience)
    t.type(b"\x03")
    t.until(b"^C")
    t.until(b"# ")
    t.type(b"echo a''fter $?\n")
    t.until(b"after 130")
    t.type(b"sleep 1001\n")
    t.until(b"sleep 1001")
    time.sleep(1 * proc.patience)
    t.type(b"\x1a")
    t.until(b"Stopped")
    t.until(b"# ")
    # Told to exit, a shell with a stopped job would only warn; and ash's wait does not wait for one.
    t.type(b"exec sh -c 'exit 9'\n")
    check_equal(t.end(), 9)


@test()
def size_and_keys_of_an_exec(ctx):
    with Sleeping(ctx) as s:
        t = Terminal(s.c.exec_argv(s.id, "tty", "sh", options=("-t",)), 91, 17)
        t.until(b"# ")
        t.type(b"stty size\n")
        t.until(b"17 91")
        t.type(b"cat\n")
        t.until(b"cat")
        time.sleep(1 * proc.patience)
        t.type(b"\x03")
        t.until(b"^C")
        t.until(b"# ")
        t.type(b"exit 5\n")
        check_equal(t.end(), 5)


@each([("init",), ("exec",)], vm=True)
def a_size_before_start(ctx, who):
    if who == "init":
        hand = Hand(ctx, start=False, cmd=("/bin/sh", "-c", "sleep 1; stty size; sleep 1000"), terminal=True,
                    spec=lambda spec: spec["process"].update(terminal=True))
        eid = ""
    else:
        hand, eid = Hand(ctx), "e"
    if who == "init":
        # its stdout must be there before Create
        out, reader = hand.hand.output("tty")
        hand.create["stdout"] = out
    with hand as h:
        if who == "exec":
            out, reader = h.output("tty")
            h.task.exec(h.id, "e", process("sh", "-c", "stty size; sleep 1000", terminal=True), stdout=out, terminal=True)
        h.task.resize(h.id, 132, 43, eid)
        h.task.start(h.id, eid)
        read_all(reader, b"43 132", 20)
        h.task.resize(h.id, 10, 20, eid)
        if who == "exec":
            h.task.kill(h.id, 9, "e")
            check_equal(h.task.wait(h.id, "e"), 137)
            h.task.delete(h.id, "e")


@test(vm=True)
def the_end_of_the_session_hangs_up(ctx):
    """The process whose terminal it is ends: those it left behind on that terminal get SIGHUP."""
    with Hand(ctx) as h:
        out, reader = h.output("tty")
        script = "trap 'echo hung > /tmp/hup; exit' HUP; (trap 'echo hung > /tmp/hup; exit' HUP; echo up; while :; do sleep 0.1; done) & sleep 1; exit 0"
        h.task.exec(h.id, "e", process("sh", "-c", script, terminal=True), stdout=out, terminal=True)
        h.task.start(h.id, "e")
        read_all(reader, b"up", 20)
        check_equal(h.task.wait(h.id, "e"), 0)
        h.task.delete(h.id, "e")
        out2, reader2 = h.output("out")
        h.task.exec(h.id, "f", process("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do test -e /tmp/hup && break; sleep 0.5; done; cat /tmp/hup"), stdout=out2)
        h.task.start(h.id, "f")
        read_all(reader2, b"hung", 20)
        h.task.wait(h.id, "f")
        h.task.delete(h.id, "f")


@test()
def binary_output_through_a_terminal(ctx):
    """Raw: every byte value, twice over."""
    with Sleeping(ctx) as s:
        script = "stty raw; i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %o $i)\"; i=$((i+1)); done; printf END"
        t = Terminal(s.c.exec_argv(s.id, "raw", "sh", "-c", script, options=("-t",)))
        got = t.until(b"END")
        check(bytes(range(256)) in got, f"{len(got)} bytes: {got[:300]!r}")
        check_equal(t.end(), 0)
