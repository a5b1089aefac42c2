"""Images with file systems, and loop devices."""

import os
import subprocess

from . import image, lab
from .proc import run
from .runner import Skip

MIB = 1 << 20
SIZES = {"ext4": 24 * MIB, "xfs": 320 * MIB}


def _proto(directory):
    """What mkfs.xfs takes a tree from."""
    def entries(path, depth):
        for name in sorted(os.listdir(path)):
            full, pad = os.path.join(path, name), " " * depth
            if os.path.islink(full):
                yield f"{pad}{name} l--777 0 0 {os.readlink(full)}"
            elif os.path.isdir(full):
                yield f"{pad}{name} d--{os.stat(full).st_mode & 0o777:03o} 0 0"
                yield from entries(full, depth + 1)
                yield f"{pad}$"
            else:
                yield f"{pad}{name} ---{os.stat(full).st_mode & 0o777:03o} 0 0 {full}"
    return "\n".join(["/dev/null", "0 0", "d--755 0 0", *entries(directory, 1), "$", ""])


def make(fstype, name):
    """The path of an image with busybox in it."""
    path, tree = os.path.join(lab.work_dir(), f"{name}.{fstype}"), os.path.join(lab.work_dir(), f"{name}.tree")
    image.unpack_busybox(tree)
    if fstype in SIZES:
        with open(path, "wb") as f:
            f.truncate(SIZES[fstype])
    try:
        if fstype == "ext4":
            run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, path], check=True)
        elif fstype == "xfs":
            with open(path + ".proto", "w") as f:
                f.write(_proto(tree))
            run(["mkfs.xfs", "-q", "-p", path + ".proto", path], check=True)
            os.unlink(path + ".proto")
        else:
            run(["mkfs.erofs", path, tree], check=True)
    except FileNotFoundError as e:
        raise Skip(f"no {e.filename}") from None
    finally:
        subprocess.run(["rm", "-rf", tree], check=True)
    return path


def blank(name, text=""):
    """1 MiB that begins with a text."""
    path = os.path.join(lab.work_dir(), name)
    with open(path, "wb") as f:
        f.write(text.encode())
        f.truncate(MIB)
    return path


class Loop:
    """A loop device of an image, whose nodes somebody else of this machine may have looked at."""

    def __init__(self, path, *options):
        self.image = path
        result = run(["losetup", "--show", "-f", *options, path])
        if result.code != 0:
            raise Skip(f"no loop devices: {result.errtext.strip()}")
        self.path = result.text.strip()
        number = os.stat(self.path).st_rdev
        self.major, self.minor = os.major(number), os.minor(number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        run(["losetup", "-d", self.path], check=True)

    def read(self, n=512):
        """What is on the image, not what a cache of the device has."""
        run(["blockdev", "--flushbufs", self.path], check=True)
        with open(self.image, "rb") as f:
            return f.read(n).rstrip(b"\0").decode()

    def device(self, inside, **more):
        return {"path": inside, "type": "b", "major": self.major, "minor": self.minor, **more}

    def rule(self, access="rwm"):
        return {"allow": True, "type": "b", "major": self.major, "minor": self.minor, "access": access}

    def is_free(self):
        """Nobody has it open for himself alone, as mountd opens what can be written."""
        try:
            os.close(os.open(self.path, os.O_RDONLY | os.O_EXCL))
        except OSError:
            return False
        return True
