"""What a guest keeps of the host's files, by virtio_fs_cache."""

import contextlib
import os

from lib import lab, proc
from lib.proc import Sandbox
from lib.runner import Skip, check, check_equal, each, test
from lib.shim import HandMade
from test_exec import process
from test_network import end
from test_volumes import SEEN_MS, in_the_guest

QEMUS = "/usr/lib/qemu/virtiofsd"
MIB = 1 << 20


class Exec:
    """exec of a container that runs, as test_exec.Sleeping has it."""

    def __init__(self, hand, task):
        self.hand, self.task, self.n = hand, task, 0

    def exec(self, *cmd):
        self.n += 1
        out, fd = self.hand.output(f"e{self.n}")
        self.task.exec(self.hand.id, f"e{self.n}", process(*cmd), stdout=out)
        self.task.start(self.hand.id, f"e{self.n}")
        status = self.task.wait(self.hand.id, f"e{self.n}")
        self.task.delete(self.hand.id, f"e{self.n}")
        os.set_blocking(fd, True)
        with open(fd, "rb", closefd=False) as f:
            return proc.Result(cmd, status, f.read(), b"", 0)


@contextlib.contextmanager
def with_volume(ctx, cache):
    """(what can exec, the sandbox, the directory that is /v in the container)."""
    volume = os.path.join(lab.work_dir(), f"share-{ctx.new_id()}")
    os.mkdir(volume)
    bin_dir = ctx.other_prefix(virtiofsd=QEMUS, virtio_fs_cache=cache)
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir) as hand:
        hand.spec["mounts"].append({"destination": "/v", "type": "bind", "source": volume, "options": ["rbind", "rw"]})
        hand.write_spec()
        task = hand.run()
        yield Exec(hand, task), Sandbox(hand.pid), volume
        end(hand, task)
    proc.run(["rm", "-r", volume], check=True)


def write(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def need_qemus():
    if os.path.realpath(QEMUS) != QEMUS:
        raise Skip("no virtiofsd of QEMU 7")


def bytes_read(sandbox):
    """By virtiofsd since it was started: by its child, which has a PID namespace of its own."""
    outer = sandbox.roles()["virtiofsd"]
    with open(f"/proc/{outer}/task/{outer}/children") as f:
        inner = int(f.read())
    with open(f"/proc/{inner}/io") as f:
        return int(f.readline().split()[1])


@test()
def virtiofsd_by_a_link(ctx):
    """Its place says which of the two it is: the place that the link leads to."""
    there = os.path.realpath(QEMUS)
    directory = os.path.join(lab.work_dir(), "bin" if "/qemu/" in there else "qemu")
    os.mkdir(directory)
    os.symlink(there, f"{directory}/virtiofsd")
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(virtiofsd=f"{directory}/virtiofsd")) as hand:
        end(hand, hand.run())
    proc.run(["rm", "-r", directory], check=True)


@each(["auto", "keep"], vm=True, deadline=180)
def what_the_host_changes_is_seen(ctx, cache):
    """Whatever it is, about a second later; and what has not changed is read again, or is not."""
    need_qemus()
    with with_volume(ctx, cache) as (s, sandbox, volume):
        for name in ("same", "longer", "gone", "a", "b"):
            write(f"{volume}/{name}", f"{name}\n".encode(), os.O_CREAT)
        os.symlink("a", f"{volume}/link")
        write(f"{volume}/large", os.urandom(8 * MIB), os.O_CREAT)
        see = "cd /v; cat same longer gone link; ls; [ -e new ] || echo no; cat large >/dev/null"
        text = "same\nlonger\ngone\na\na\nb\ngone\nlarge\nlink\nlonger\nsame\nno\n"
        check_equal(s.exec("sh", "-c", see).text, text)

        before = bytes_read(sandbox)
        check_equal(s.exec("sh", "-c", see).text, text)
        again = bytes_read(sandbox) - before
        check(again < MIB if cache == "keep" else again >= 8 * MIB, f"{again} bytes were read again")

        write(f"{volume}/same", b"SAME\n")
        write(f"{volume}/longer", b"and longer\n", os.O_APPEND)
        write(f"{volume}/new", b"new\n", os.O_CREAT)
        os.unlink(f"{volume}/gone")
        os.symlink("b", f"{volume}/swapped")
        os.rename(f"{volume}/swapped", f"{volume}/link")
        for condition in ('[ "$(cat /v/same)" = SAME ]', '[ "$(tail -n 1 /v/longer)" = "and longer" ]', '[ "$(cat /v/new)" = new ]',
                          "! [ -e /v/gone ]", '[ "$(cat /v/link)" = b ]'):
            took = in_the_guest(s, condition)
            check(took is not None and took <= SEEN_MS, f"{condition}: after {took} ms")
        check_equal(s.exec("sh", "-c", see).text,
                    "SAME\nlonger\nand longer\nb\na\nb\nlarge\nlink\nlonger\nnew\nsame\n")

        # And the other way at once, which no cache is in.
        s.exec("sh", "-c", "echo mine >/v/same; echo mine >/v/mine; rm /v/a")
        check_equal(sorted(os.listdir(volume)), ["b", "large", "link", "longer", "mine", "new", "same"])
        with open(f"{volume}/same") as f:
            check_equal(f.read(), "mine\n")
