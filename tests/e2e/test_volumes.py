"""Directories and files of the host in a container: config.json's bind mounts. And a tmpfs of the guest."""

import os
import shutil
import socket
import stat
import subprocess

from lib import image, lab, proc
from lib.fuse import Fuse
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, test
from lib.shim import HandMade
from test_exec import Sleeping


class Sources:
    """What is bound: a directory with another file system in it, and files."""

    def __init__(self, ctx):
        self.dir = os.path.join(lab.work_dir(), f"volumes-{ctx.new_id()}")
        for name in ("rw", "ro", "rw/inner", "ro/inner"):
            os.makedirs(self.path(name))
        for name in ("rw/there", "ro/there", "file", "rofile"):
            self.write(name, name)
        for name in ("rw/inner", "ro/inner"):
            subprocess.run(["mount", "-t", "tmpfs", "inner", self.path(name)], check=True)
            self.write(f"{name}/deep", "deep")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text + "\n")

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def mount(self, name, target, options):
        return "--mount", f"type=bind,src={self.path(name)},dst={target},options={options}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in ("rw/inner", "ro/inner"):
            subprocess.run(["umount", self.path(name)], check=True)
        shutil.rmtree(self.dir)


def on_the_host(sandbox, role):
    """{name in the share: rw or ro} of the volumes, as a role's mount namespace has them."""
    with open(f"/proc/{sandbox.roles()[role]}/mountinfo") as f:
        fields = [line.split() for line in f]
    return {"/".join(f[4].split("/")[-2:]): f[5].split(",")[0] for f in fields if "/c1/v" in f[4]}


@test(vm=True)
def of_every_kind(ctx):
    with Sources(ctx) as src:
        options = [*src.mount("rw", "/rw", "rbind:rw"), *src.mount("ro", "/ro", "rbind:ro"), *src.mount("ro", "/rro", "rbind:rro"),
                   *src.mount("rw", "/flat", "bind:rw"), *src.mount("file", "/etc/file", "rbind:rw"),
                   *src.mount("rofile", "/deep/in/file", "bind:ro"), "--mount", "type=tmpfs,src=tmpfs,dst=/memory,options=size=64k"]
        with Sleeping(ctx, *options) as s:
            result = s.exec("sh", "-c", """
cat /rw/there /ro/there /flat/there /etc/file /deep/in/file /rw/inner/deep /ro/inner/deep; ls /flat/inner | wc -l
echo new > /rw/new; echo new > /rw/inner/new; echo more >> /etc/file; mkdir /rw/d && mv /rw/new /rw/d/moved
for f in /ro/new /rro/new /rro/inner/new /deep/in/file; do touch $f 2>&1; done | sed 's/.*: //'
head -c 100000 /dev/zero > /memory/much 2>/dev/null || echo full; grep -c ' /memory tmpfs ' /proc/mounts
""")
            check_equal(result.text.splitlines(), ["rw/there", "ro/there", "rw/there", "file", "rofile", "deep", "deep", "0",
                                                   *["Read-only file system"] * 4, "full", "1"], result)
            check_equal([src.read(n) for n in ("rw/d/moved", "rw/inner/new", "file")], ["new\n", "new\n", "file\nmore\n"])
            src.write("rw/later", "later")
            check_equal(s.exec("cat", "/rw/later", "/flat/later").text, "later\nlater\n", "what the host writes later")
            for role in ("mountd", "virtiofsd"):
                check_equal(on_the_host(Sandbox(s.pid), role),
                            {"c1/v0": "rw", "v0/inner": "rw", "c1/v1": "ro", "v1/inner": "rw", "c1/v2": "ro", "v2/inner": "ro",
                             "c1/v3": "rw", "c1/v4": "rw", "c1/v5": "ro"}, f"for the host, in {role}'s namespace")


@test(vm=True)
def read_only_is_the_hosts_word(ctx):
    """For root with all of the guest's privileges: a mount that is made writable again is still one that is not."""
    with Sources(ctx) as src, Sleeping(ctx, "--cap-add", "CAP_SYS_ADMIN", *src.mount("ro", "/ro", "rbind:ro"),
                                       *src.mount("rofile", "/rofile", "bind:ro")) as s:
        result = s.exec("sh", "-c", """
mount -o remount,rw /ro && mount -o remount,rw /rofile && grep -c ' /ro[ f].* rw' /proc/mounts
for f in /ro/there /ro/new /rofile; do (echo evil > $f) 2>&1; (echo evil >> $f) 2>&1; done | sed 's/.*: //' | sort | uniq -c
chmod 777 /ro/there 2>&1; chown 1 /rofile 2>&1; rm /ro/there 2>&1; ln /ro/there /ro/link 2>&1; mv /ro/there /ro/moved 2>&1
true""")
        lines = result.text.splitlines()
        check_equal([line.split() for line in lines[:2]], [["2"], ["6", "Read-only", "file", "system"]], result)
        check_equal([line for line in lines[2:] if "Read-only file system" not in line], [], result)
        check_equal(len(lines), 7, result)
        check_equal((src.read("ro/there"), src.read("rofile"), sorted(os.listdir(src.path("ro")))),
                    ("ro/there\n", "rofile\n", ["inner", "there"]))
        check_equal(stat.filemode(os.stat(src.path("ro/there")).st_mode), "-rw-r--r--")


SEEN_MS = 3000  # a second of the guest's cache, and what TCG makes of the rest


def in_the_guest(s, condition):
    """Milliseconds until a shell's condition holds there; None: it does not in ten times as long."""
    script = f"for i in $(seq {SEEN_MS // 10}); do if {condition}; then echo $i; break; fi; usleep 100000; done"
    text = s.exec("sh", "-c", script).text
    return 100 * (int(text) - 1) if text else None


@test(deadline=180, vm=True)
def what_the_host_mounts_later(ctx):
    """Mount propagation: from the host into a container that asks for it, and never back."""
    base = os.path.join(lab.work_dir(), f"later-{ctx.new_id()}")
    vol, late = f"{base}/vol", f"{base}/vol/late"
    os.mkdir(base)
    subprocess.run(["mount", "-t", "tmpfs", "base", base], check=True)
    subprocess.run(["mount", "--make-shared", base], check=True)
    os.makedirs(late)
    options = [x for name in ("rslave", "rprivate", "rshared")
               for x in ("--mount", f"type=bind,src={vol},dst=/{name},options=rbind:{name}")]
    try:
        with Sleeping(ctx, "--cap-add", "CAP_SYS_ADMIN", *options) as s:
            # Looked at before: the guest remembers that nothing is there.
            check_equal(s.exec("sh", "-c", "ls /rslave/late /rprivate/late /rshared/late | grep -c x").text, "0\n")
            mount_late(late)
            for name in ("rslave", "rshared"):
                took = in_the_guest(s, f"[ -f /{name}/late/x ]")
                check(took is not None and took <= SEEN_MS, f"a mount is seen after {took} ms")
            check_equal(s.exec("sh", "-c", "cat /rslave/late/x; echo new > /rslave/late/new; ls -l /rprivate/late").text,
                        "late\ntotal 0\n")
            check_equal(sorted(os.listdir(late)), ["new", "x"])

            # What the guest remembers of it does not hold the host.
            subprocess.run(["umount", late], check=True)
            took = in_the_guest(s, "! [ -e /rslave/late/x ]")
            check(took is not None and took <= SEEN_MS, f"it is seen to be gone after {took} ms")

            check_equal(s.exec("sh", "-c", "mkdir /rshared/own && mount -t tmpfs own /rshared/own && "
                                           "echo x > /rshared/own/x && ls /rshared/own").text, "x\n")
            check_equal(os.listdir(f"{vol}/own"), [])
            with open("/proc/self/mountinfo") as f:
                check("/own " not in f.read(), "a container's mount is on the host")
            warned = [line for line in ctx.containerd.log().splitlines() if "does not appear on the host" in line]
            check(any("volume /rshared: " in line for line in warned) and not any("/rslave" in line for line in warned),
                  f"the log says of /rshared alone what cannot be: {warned}")
            # One that outlives the container, and is used.
            mount_late(late)
            check(in_the_guest(s, "[ -f /rslave/late/x ]") is not None, "another one is seen")
            with open(f"{late}/x") as busy:
                s.c.remove(s.id)
                check_equal(busy.read(), "late\n")
            subprocess.run(["umount", late], check=True)
    finally:
        subprocess.run(["umount", "-R", base], check=True)
        os.rmdir(base)


def mount_late(late):
    subprocess.run(["mount", "-t", "tmpfs", "late", late], check=True)
    with open(f"{late}/x", "w") as f:
        f.write("late\n")


@test(vm=True)
def huge_pages_by_limits(ctx):
    """Those of a single container come on top of its VM's memory; more than fit are one sentence, and no container."""
    path = os.path.join(lab.work_dir(), f"huge-{ctx.new_id()}")
    os.mkdir(path)
    show = "awk '/^MemTotal|^HugePages_Total/ {print $2}' /proc/meminfo"
    try:
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "nodev", path], check=True)
        totals = []
        for limit in (0, 128 << 20):
            with HandMade(ctx.containerd, ctx.new_id(), cmd=("/bin/sh", "-c", show)) as hand:
                hand.spec["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": limit},
                                                                     {"pageSize": "16GB", "limit": 0}]
                hand.spec["mounts"].append({"destination": "/huge", "type": "bind", "source": path, "options": ["rbind", "rw"]})
                hand.write_spec()
                task = hand.run()
                task.wait(hand.id)
                task.delete(hand.id)
                memory, pages = map(int, os.read(hand.stdout, 4096).split())
                check_equal(pages, limit >> 21)
                totals.append(memory)
                hand.end(task)
        check((totals[1] - totals[0]) >> 10 in range(120, 129), f"{totals} kB")
        subprocess.run(["umount", path], check=True)
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,size=4G", "nodev", path], check=True)
        result = ctx.containerd.run(image.BUSYBOX, ctx.new_id(), "true", options=("--rm", "--mount", f"type=bind,src={path},dst=/huge,options=rbind"))
        check_equal(result.code, 1, result)
        check_contains(result.errtext, "2048 huge pages of 2048 kB do not fit into the VM: it has ", " MiB of memory left for such")
    finally:
        subprocess.run(["umount", path], check=True)
        os.rmdir(path)


@test(vm=True)
def what_a_vm_must_not_have(ctx):
    c, plain = ctx.containerd, os.path.join(lab.work_dir(), "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(plain)
        for source, kind, sentence in (
                ("/proc", "bind", "is a file system of the host's kernel (proc), which a VM must not have"),
                ("/sys/kernel", "rbind", "is a file system of the host's kernel (sysfs)"),
                ("/", "rbind", "is a file system of the host's kernel ("),
                (plain, "bind", "is neither a directory, nor a regular file, nor a block device"),
                ("/dev/null", "bind", "is neither a directory, nor a regular file, nor a block device"),
                ("/no/such", "bind", "'/no/such'")):
            result = c.run(image.BUSYBOX, ctx.new_id(), "true", options=("--rm", "--mount", f"type=bind,src={source},dst=/x,options={kind}"))
            check_equal(result.code, 1, result)
            check_contains(result.errtext, "mount its file systems: ", "volume /x: ", sentence)
    os.unlink(plain)


@test(vm=True)
def one_that_stops_to_answer_harms_nobody_else(ctx):
    """A file system of the host whose server says nothing any more.

    The kernel keeps whoever waits for that server, SIGKILL or not, and with it the sandbox's
    cgroups: what `delete` cannot take away in time the next `start` does.
    """
    with Fuse(os.path.join(lab.work_dir(), f"fuse-{ctx.new_id()}")) as fuse:
        mount = ("--mount", f"type=bind,src={fuse.path},dst=/silent,options=bind:rw")
        with Sleeping(ctx, *mount) as s:
            try:
                check_equal(s.exec("ls", "/silent").code, 0, "as long as it answers")
                fuse.silent = True
                the_container_goes_on(s, fuse)
                another_is_refused(ctx, mount)
            finally:
                fuse.abort()
    check_equal(ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "true").code, 0)


def the_container_goes_on(s, fuse):
    """Beside more who wait than malloc has arenas before it counts CPUs."""
    many = "for i in $(seq 20); do ls /silent & done; wait"
    check_equal(s.c.exec(s.id, "hangs", "sh", "-c", many, options=("-d",)).code, 0)
    proc.wait_until(lambda: fuse.unanswered >= 12, 20, "they wait for it")
    result = s.exec("sh", "-c", "head -c 4 /etc/passwd; echo new > /tmp/new; cat /tmp/new")
    check_equal((result.code, result.text), (0, "rootnew\n"), f"an exec beside them: {result}")


def another_is_refused(ctx, mount):
    result = ctx.containerd.run(image.BUSYBOX, ctx.new_id(), "true", options=("--rm", *mount))
    check_equal(result.code, 1, result)
    check_contains(result.errtext, "mount its file systems: ", "a file system it needs does not answer")
