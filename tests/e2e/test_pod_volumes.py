"""Volumes as the kubelet makes them, in a pod's containers."""

import errno
import os
import subprocess
import time

from lib import image, lab, proc
from lib.cri import Pod, kubelet
from lib.runner import check, check_contains, check_equal, test

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/release/tests/e2e")
FSPROBE = os.path.join(PROGRAMS, "fsprobe")
PROBES = "docker.io/library/probes:test"
SWAP_S = 1

# FUSE has the setuid bit taken away whenever a file is made shorter or longer; a disk does not for root.
DIFFERENT = ["owned: mode 100755 uid 1000 gid 33 links 1 size 100"]


class Volumes:
    """Directories of the host as the kubelet lays them out, gone again at the end."""

    def __init__(self, name):
        self.root = os.path.join(lab.work_dir(), f"volumes-{name}")
        self.mounted = []

    def __enter__(self):
        os.mkdir(self.root)
        return self

    def __exit__(self, *_):
        for path in self.mounted:
            proc.run(["umount", path], check=True)
        subprocess.run(["rm", "-rf", self.root], check=True)

    def path(self, name):
        return os.path.join(self.root, name)

    def directory(self, name, mode=0o777):
        os.makedirs(self.path(name))
        os.chmod(self.path(name), mode)
        return self.path(name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def tmpfs(self, name, size):
        """An emptyDir with medium Memory, where the kubelet has them."""
        path = self.directory(f"kubernetes.io~empty-dir/{name}")
        proc.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", path], check=True)
        self.mounted.append(path)
        return path

    def huge_pages(self, name, *options):
        """An emptyDir with medium HugePages-2Mi; the kubelet gives it no size."""
        path = self.directory(f"kubernetes.io~empty-dir/{name}")
        proc.run(["mount", "-t", "hugetlbfs", "-o", ",".join(["pagesize=2M", *options]), "nodev", path], check=True)
        self.mounted.append(path)
        os.chmod(path, 0o1777)
        return path

    def publish(self, name, **files):
        """What ConfigMap, Secret, downward API and projected are: a new directory, and ..data swapped to it."""
        version = f"..{time.monotonic_ns()}"
        self.directory(f"{name}/{version}", 0o755)
        for key, text in files.items():
            self.write(f"{name}/{version}/{key}", text)
            if not os.path.islink(self.path(f"{name}/{key}")):
                os.symlink(f"..data/{key}", self.path(f"{name}/{key}"))
        os.symlink(version, self.path(f"{name}/..data_tmp"))
        os.rename(self.path(f"{name}/..data_tmp"), self.path(f"{name}/..data"))

    def mount(self, inside, name, **options):
        return {"container_path": inside, "host_path": self.path(name), **options}


@test(deadline=240, vm=True)
def of_every_kind(ctx):
    with kubelet(ctx) as k, Volumes(ctx.new_id()) as v, Pod(k, ctx.new_id()) as pod:
        v.publish("config", key="old\n", other="same\n")
        v.directory("empty")
        memory = v.tmpfs("memory", "8m")
        os.chown(memory, 0, 4000)
        os.chmod(memory, 0o2777)
        v.directory("host/sub/path")
        v.write("host/sub/path/file", "of a subPath\n")
        os.mkfifo(v.path("host/fifo"))
        mounts = [v.mount("/config", "config", readonly=True), v.mount("/empty", "empty"),
                  v.mount("/memory", "kubernetes.io~empty-dir/memory"), v.mount("/sub", "host/sub/path"),
                  v.mount("/sub-file", "host/sub/path/file", readonly=True), v.mount("/host", "host", readonly=True),
                  v.mount("/both-ways", "empty", propagation="BIDIRECTIONAL")]
        a, b = (pod.start(name, "sleep", "1000", mounts=mounts) for name in "ab")

        check_equal(a.sh("cat /config/key /config/other /sub/file /sub-file /host/sub/path/file"),
                    "old\nsame\n" + "of a subPath\n" * 3)
        for path in ("/config/x", "/host/x", "/host/sub/x"):
            check_equal(a.exec("touch", path).stderr, f"touch: {path}: Read-only file system\n".encode())
        check_equal(a.exec("sh", "-c", "echo x > /sub-file").exit_code, 1)

        a.sh("echo written > /empty/f; echo shared > /memory/f; echo changed > /sub/file")
        check_equal(b.sh("cat /empty/f /memory/f /both-ways/f"), "written\nshared\nwritten\n")
        check_equal((v.read("empty/f"), v.read("host/sub/path/file")), ("written\n", "changed\n"))
        v.write("empty/from-the-host", "hello\n")
        check_equal(b.sh("cat /empty/from-the-host"), "hello\n")
        check_equal(a.sh("test -p /host/fifo && echo fifo"), "fifo\n")
        late = v.directory("empty/late")
        proc.run(["mount", "-t", "tmpfs", "late", late], check=True)
        v.mounted.append(late)
        v.write("empty/late/x", "mounted later\n")
        proc.wait_until(lambda: b.exec("cat", "/both-ways/late/x").stdout == b"mounted later\n", 20, "it is seen both ways")
        check_equal(b.sh("ls /empty/late"), "")

        # Full is full, for the container alone.
        r = a.exec("dd", "if=/dev/zero", "of=/memory/large", "bs=1M", "count=20")
        check_contains(r.stderr.decode(), "No space left on device")
        # Nor is it the host's: the guest has a tmpfs of its own, which is as the kubelet has made the other.
        check_equal(os.listdir(memory), [])
        check_equal(a.sh("awk '$2 == \"/memory\" {print $3}' /proc/mounts; stat -c '%a %u %g' /memory").split(),
                    ["tmpfs", "2777", "0", "4000"])
        check_contains(a.sh("df -k /memory"), " 8192 ")
        c = pod.start("c", "cat", "/memory/f", mounts=mounts)
        check_equal((c.wait(), c.log()), (0, "shared\n"))

        v.publish("config", key="new\n", other="same\n")
        swapped = time.monotonic()
        proc.wait_until(lambda: a.sh("cat /config/key") == "new\n", 20, "the new ..data is seen")
        took, b_sees = time.monotonic() - swapped, b.sh("cat /config/key")
        check_equal(b_sees, "new\n")
        # The exec itself takes most of it under TCG.
        started = time.monotonic()
        a.sh("cat /config/key")
        check(took < SWAP_S + 2 * (time.monotonic() - started), f"seen after {took:.2f} s")


def import_probes(ctx):
    tar, layer = os.path.join(lab.work_dir(), "probes.tar"), image.Layer()
    for name in ("fsprobe", "hugemap"):
        with open(os.path.join(PROGRAMS, name), "rb") as f:
            layer.file(f"bin/{name}", f.read(), 0o755)
    ctx.cri.import_image(image.write_image(tar, PROBES, [image.busybox_layer(), layer.done()]))
    os.unlink(tar)


def huge_pages_of(container):
    return int(container.sh("awk '/^HugePages_Total/ {print $2}' /proc/meminfo"))


@test(deadline=240, vm=True)
def huge_pages(ctx):
    """One hugetlbfs of the guest for all containers of the pod; without a word of their number as many as they map."""
    with kubelet(ctx) as k, Volumes(ctx.new_id()) as v, Pod(k, ctx.new_id()) as pod:
        import_probes(ctx)
        host, small = v.huge_pages("huge"), v.huge_pages("small", "size=16M")
        os.mkdir(f"{host}/sub")
        mounts = [v.mount("/huge", "kubernetes.io~empty-dir/huge")]
        a, b = (pod.start(name, "sleep", "1000", image=PROBES, mounts=mounts) for name in "ab")
        check_equal(huge_pages_of(a), 0)
        check_equal(a.sh("hugemap /huge/file 4 shared"), "shared\n2048 kB\n")
        check_equal(b.sh("hugemap /huge/file 4"), "shared\n2048 kB\n")
        check_equal((huge_pages_of(a), os.listdir(host)), (4, ["sub"]))
        check_equal(a.sh("awk '$2 == \"/huge\" {print $3}' /proc/mounts; stat -c %a /huge").split(), ["hugetlbfs", "1777"])
        check_contains(a.exec("hugemap", "/huge/large", "10000").stderr.decode(), "Cannot allocate memory")
        b.sh("rm /huge/*")
        check_equal(huge_pages_of(a), 0)

        # Those of a file system with a size are there before anybody maps one, and go with the container.
        c = pod.start("c", "sleep", "1000", image=PROBES, mounts=[v.mount("/small", "kubernetes.io~empty-dir/small")])
        check_equal(huge_pages_of(a), 8)
        check_equal(c.sh("hugemap /small/file 8 all; rm /small/file"), "all\n2048 kB\n")
        check_equal(c.exec("hugemap", "/small/file", "9").exit_code, 1)
        c.stop(0)
        c.remove()
        check_equal((huge_pages_of(a), os.listdir(small)), (0, []))
        check_contains(pod.refused("d", ["true"], image=PROBES, mounts=[v.mount("/sub", "kubernetes.io~empty-dir/huge/sub")]),
                       "volume /sub: ", "lies in a hugetlbfs, of which a VM can have the whole alone")


def knows_o_direct(directory):
    """A tmpfs does not, before Linux 6.6."""
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT))
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        return False
    return True


@test(deadline=300, vm=True)
def a_file_system_like_the_hosts(ctx):
    """The same program on a directory of the host and, in a container, on its neighbour."""
    with kubelet(ctx) as k, Volumes(ctx.new_id()) as v, Pod(k, ctx.new_id()) as pod:
        import_probes(ctx)
        v.directory("volume")
        words = [str(10000 if ctx.long else 500)] + ["direct"] * knows_o_direct(v.directory("host"))
        host = proc.run([FSPROBE, v.path("host"), *words], check=True).text.splitlines()
        c = pod.start("probe", "fsprobe", "/volume", *words, image=PROBES, mounts=[v.mount("/volume", "volume")])
        check_equal((c.wait(200), c.log("stderr")), (0, ""))
        guest = c.log().splitlines()
        check_equal([g for h, g in zip(host, guest, strict=True) if h != g], DIFFERENT)

        # And what has come of it, as the host sees it.
        def tree(name):
            out = proc.run(["find", v.path(name), "-printf", "%P %m %U %G %n %y %s %l\n"], check=True).text
            return sorted(line for line in out.splitlines() if " d " not in line)
        check_equal(sorted(set(tree("volume")) ^ set(tree("host"))), [])
        check(os.stat(v.path("volume/sparse")).st_blocks < 4096, "the host's file is not sparse")
