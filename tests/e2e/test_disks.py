"""Images and block devices as disks of the VM: roots, linux.devices, volumes."""

import json
import os

from lib import disks, image, lab, proc, ttrpc
from lib.cri import Pod, kubelet
from lib.disks import Loop
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, each, test
from lib.shim import HandMade
from test_exec import Sleeping


def output(hand, task, cid, script, rootfs, bundle=None):
    """What a container says: made, run, deleted."""
    out, fd = hand.output(f"out-{cid}")
    task.create(cid, bundle or hand.bundle, rootfs, stdout=out, stderr=out)
    task.start(cid)
    task.wait(cid)
    text = b""
    os.set_blocking(fd, True)
    task.delete(cid)
    os.set_blocking(fd, False)
    while True:
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            break
        if not part:
            break
        text += part
    return text.decode()


def run_once(ctx, rootfs, script, readonly=False, **settings):
    """One container of its own; (what it has said, the shim's log, what the host had mounted of it)."""
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(**settings) if settings else None,
                  cmd=("/bin/sh", "-c", script)) as hand:
        hand.spec["root"]["readonly"] = readonly
        hand.write_spec()
        hand.start()
        task = hand.task()
        text = output(hand, task, hand.id, script, rootfs)
        hand.end(task)
        return text, hand.log()


def mounted_anywhere(path):
    """Whether any process of the machine has a file system of this image or device mounted."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/mountinfo") as f:
                found += [line for line in f if path in line]
        except OSError:
            continue
    return found


WHAT = "awk '$2 == \"/\" {print $1, $3, substr($4, 1, 2)}' /proc/mounts; cat /sys/block/vda/ro"


@each(["ext4", "xfs", "erofs"], vm=True)
def a_root_in_an_image(ctx, fstype):
    path = disks.make(fstype, ctx.new_id())
    rw = fstype != "erofs"
    text, _ = run_once(ctx, [(fstype, path, ["loop", "rw" if rw else "ro"])],
                       f"{WHAT}; echo kept > /new; cat /new; head -1 /etc/passwd")
    check_equal(text.splitlines()[:2], [f"/dev/vda {fstype} {'rw' if rw else 'ro'}", "0" if rw else "1"], text)
    check_contains(text, "root:x:0:0" if rw else "/new: Read-only file system")
    # Nothing is left in use, and what was written is there.
    text, _ = run_once(ctx, [(fstype, path, ["loop", "ro"])], f"{WHAT}; cat /new; touch /x")
    check_equal(text.splitlines()[:2], [f"/dev/vda {fstype} ro", "1"], text)
    check_contains(text, "kept" if rw else "No such file", "/x: Read-only file system")
    os.unlink(path)


@test(vm=True)
def a_root_that_the_spec_makes_read_only(ctx):
    path = disks.make("ext4", ctx.new_id())
    text, _ = run_once(ctx, [("ext4", path, ["rw"])], f"{WHAT}; touch /x", readonly=True)
    check_equal(text.splitlines(), ["/dev/vda ext4 ro", "0", "touch: /x: Read-only file system"])
    os.unlink(path)


@test(vm=True)
def a_root_on_a_block_device(ctx):
    """As the devmapper snapshotter gives it; the host has it neither mounted nor open."""
    path = disks.make("ext4", ctx.new_id())
    settings = {"rootfs_prefix": [lab.work_dir(), "/dev"]}
    with Loop(path) as loop:
        with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(**settings)) as hand:
            hand.start()
            task = hand.task()
            task.create(hand.id, hand.bundle, [("ext4", loop.path, [])])
            task.start(hand.id)
            check(not loop.is_free(), "the VM has it alone")
            check_equal((mounted_anywhere(loop.path), mounted_anywhere(path)), ([], []))
            for role, pid in Sandbox(task.connect(hand.id)["task_pid"]).roles().items():
                links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
                check_equal(loop.path in links, role == "qemu", f"{role} holds {links}")
            task.kill(hand.id, 9, every=True)
            task.wait(hand.id)
            task.delete(hand.id)
            check(loop.is_free(), "taken out of the VM, which runs on")
            hand.end(task)
        text, _ = run_once(ctx, [("ext4", loop.path, ["ro"])], WHAT, **settings)
        check_equal(text.splitlines(), ["/dev/vda ext4 ro", "1"])
        # What the host itself has mounted it does not give away.
        mnt = os.path.join(lab.work_dir(), "mnt")
        os.mkdir(mnt)
        proc.run(["mount", loop.path, mnt], check=True)
        with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(**settings)) as hand:
            check_contains(refused(hand, [("ext4", loop.path, ["ro"])]), "is in use: the host has mounted it")
        proc.run(["umount", mnt], check=True)
        os.rmdir(mnt)
    os.unlink(path)


def refused(hand, rootfs):
    """The sentence of a Create that fails."""
    hand.start()
    task = hand.task()
    try:
        task.create(hand.id, hand.bundle, rootfs)
    except ttrpc.RpcError as e:
        sentence = e.message
    else:
        raise AssertionError("Create succeeded")
    task.close()
    check_equal(hand.delete().code, 0)
    return sentence


@test(vm=True)
def an_image_that_is_none(ctx):
    """What is on it nobody of the host looks at: it is the guest that says no."""
    path = disks.blank(ctx.new_id(), "no file system")
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        check_contains(refused(hand, [("ext4", path, ["rw"])]), "create the container in the guest: ", "mount ext4 /dev/vda")
    with open(path, "rb") as f:
        check_equal(f.read(14), b"no file system")
    os.unlink(path)


# -- linux.devices

class DiskPod:
    """A pod of hand-made containers, each with a device or none. All may make device nodes."""

    def __init__(self, ctx):
        self.hand = HandMade(ctx.containerd, ctx.new_id())
        self.lower = image.unpack_busybox(os.path.join(self.hand.dir, "lower"))
        self.hand.spec["annotations"] = {"io.kubernetes.cri.container-type": "sandbox",
                                         "io.kubernetes.cri.sandbox-id": self.hand.id}
        self.hand.write_spec()

    def __enter__(self):
        self.hand.__enter__()
        self.hand.start()
        self.task = self.hand.task()
        self.task.create(self.hand.id, self.hand.bundle, self.hand.overlay(self.lower))
        self.task.start(self.hand.id)
        return self

    def __exit__(self, kind, *rest):
        if kind is None:
            self.remove(self.hand.id)
            self.hand.end(self.task)
        self.hand.__exit__(kind, *rest)

    def _bundle(self, name, script, device, rules):
        bundle, rootfs = self.hand.sibling(name, ("/bin/sh", "-c", f"{script}; echo END; sleep 1000"), self.lower)
        path = os.path.join(bundle, "config.json")
        with open(path) as f:
            spec = json.load(f)
        if device:
            spec["linux"].setdefault("devices", []).append(device)
        spec["linux"]["resources"]["devices"] += rules
        for held in spec["process"]["capabilities"].values():
            held.append("CAP_MKNOD")
        with open(path, "w") as f:
            json.dump(spec, f)
        return bundle, rootfs

    def start(self, name, script, device=None, rules=()):
        """What it says before it sleeps."""
        bundle, rootfs = self._bundle(name, script, device, rules)
        out, fd = self.hand.output(f"out-{name}")
        self.task.create(name, bundle, rootfs, stdout=out, stderr=out)
        self.task.start(name)
        text = ""

        def has():
            nonlocal text
            try:
                text += os.read(fd, 65536).decode()
            except BlockingIOError:
                pass
            return "END\n" in text
        proc.wait_until(has, 20, f"{name} has said all")
        return text

    def remove(self, name):
        self.task.kill(name, 9, every=True)
        self.task.wait(name)
        self.task.delete(name)


# Type, mode and owner; what is there; and something else over it, or why not.
LOOK = ("ls -ln {0} | awk '{{print $1, $3, $4}}'; head -c 5 {0}; echo; "
        "printf {1} | dd of={0} conv=notrunc,fsync 2>&1 | grep -i permitted")
# Every disk that the VM might have, by its number.
STEAL = ("for n in 0 16 32; do mknod /dev/d$n b 254 $n && head -c 5 /dev/d$n; done 2>&1; "
         "head -c 3 /dev/zero | wc -c")


@test(deadline=180, vm=True)
def devices_of_a_pod(ctx):
    """Two containers name the same device; a third has none, and gets at none."""
    with Loop(disks.blank(ctx.new_id(), "first")) as loop, DiskPod(ctx) as pod:
        said = pod.start("a", LOOK.format("/dev/data", "alpha"), loop.device("/dev/data", fileMode=0o640, uid=5, gid=6), [loop.rule()])
        check_equal(said, "brw-r----- 5 6\nfirst\nEND\n")
        check(not loop.is_free(), "the VM has it")
        # Outside of /dev, where the root is a share that can have no devices, and not to be written.
        said = pod.start("b", LOOK.format("/disk", "gamma"), loop.device("/disk"), [loop.rule("rm")])
        check_contains(said, "brw-rw-rw- 0 0\nalpha\n", "ermitted")
        said = pod.start("c", STEAL)
        check_contains(said, "d0: Operation not permitted", "3\nEND")
        check("alpha" not in said, said)
        pod.remove("a")
        check(not loop.is_free(), "b has it")
        pod.remove("b")
        check(loop.is_free(), "nobody has it any more")
        check_equal(loop.read(), "alpha")
        # And once more in the same VM.
        check_contains(pod.start("again", LOOK.format("/dev/data", "omega"), loop.device("/dev/data"), [loop.rule()]), "alpha")
        pod.remove("again")
        check_equal(loop.read(), "omega")
        # Read-only for one is not writable for another at the same time.
        pod.start("reader", LOOK.format("/dev/data", "alpha"), loop.device("/dev/data"), [loop.rule("r")])
        try:
            pod.start("writer", "true", loop.device("/dev/data"), [loop.rule()])
        except ttrpc.RpcError as e:
            check_contains(e.message, "create writer: mount its file systems: linux.devices[0]: /dev/data: block device ",
                           "is in the VM read-only already")
        else:
            raise AssertionError("it was created")
        check_equal(loop.read(), "omega")
    os.unlink(loop.image)


@test(vm=True)
def what_is_the_hosts_alone(ctx):
    c = ctx.containerd
    result = c.run(image.BUSYBOX, ctx.new_id(), "true", options=("--rm", "--device", "/dev/loop-control"))
    check_equal(result.code, 1, result)
    check_contains(result.errtext, "linux.devices[", "/dev/loop-control (c 10:237) is a device of the host alone")
    # Those that a VM has of its own accord.
    result = c.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c",
                      "for d in null zero full random urandom tty fuse net/tun; do test -c /dev/$d || echo no $d; done; "
                      "head -c 3 /dev/urandom | wc -c; exec 3<>/dev/fuse && echo fuse; exec 4<>/dev/net/tun && echo tun",
                      options=("--device", "/dev/fuse", "--device", "/dev/net/tun"))
    check_equal(result.text.split(), ["3", "fuse", "tun"], result)


@test(vm=True)
def privileged_with_all_devices_of_the_host(ctx):
    """ctr and Docker fill them in, as does CRI without privileged_without_host_devices."""
    before = ctx.containerd.log_size()
    with Loop(disks.blank(ctx.new_id(), "host")) as loop:
        with Sleeping(ctx, "--privileged") as s:
            check_equal([d for d in s.exec("ls", "/dev").text.split() if d.startswith(("sd", "vd", "loop", "kvm", "mem"))], [])
            check(loop.is_free(), "nothing of the host's was opened")
            # It may make those of its own VM.
            check_equal(s.exec("sh", "-c", "mknod /dev/k c 1 11 && test -r /dev/k && echo ok").text, "ok\n")
    os.unlink(loop.image)
    lines = [l for l in ctx.containerd.log_since(before).splitlines() if "as a privileged container has them" in l]
    check_equal(len(lines), 1, lines)


@test(vm=True)
def a_block_device_as_a_volume(ctx):
    with Loop(disks.blank(ctx.new_id(), "bound")) as loop:
        mount = ("--mount", f"type=bind,src={loop.path},dst=/dev/xx,options=rbind:rw",
                 "--mount", f"type=bind,src={loop.path},dst=/data,options=rbind:ro")
        with Sleeping(ctx, *mount) as s:
            check_equal(s.exec("head", "-c", "5", "/dev/xx").text, "bound")
            check_equal(s.exec("sh", "-c", "test -b /data && head -c 5 /data").text, "bound")
            check_equal(s.exec("sh", "-c", "printf other | dd of=/dev/xx conv=notrunc,fsync 2>/dev/null; echo $?").text, "0\n")
        check(loop.is_free(), "nobody has it any more")
        check_equal(loop.read(), "other")
        with Sleeping(ctx, "--mount", f"type=bind,src={loop.path},dst=/dev/yy,options=bind:ro") as s:
            check_equal(s.exec("sh", "-c", "cat /sys/block/vda/ro; printf wrong | dd of=/dev/yy conv=notrunc,fsync 2>&1 | grep -c ermitted").text, "1\n1\n")
        check_equal(loop.read(), "other")
    os.unlink(loop.image)


# -- CRI

@test(deadline=240, vm=True)
def block_volumes_of_a_pod(ctx):
    """Raw block volumes as the kubelet names them; a container that is started anew has its own again."""
    with kubelet(ctx) as k, Loop(disks.blank(ctx.new_id(), "first")) as loop, Pod(k, ctx.new_id()) as pod:
        device = {"container_path": "/dev/block", "host_path": loop.path, "permissions": "mrw"}
        elsewhere = {"container_path": "/block", "host_path": loop.path, "permissions": "mr"}
        a = pod.start("a", "sleep", "1000", devices=[device])
        b = pod.start("b", "sleep", "1000", devices=[elsewhere])
        a.sh("printf alpha | dd of=/dev/block conv=notrunc,fsync 2>/dev/null")
        check_equal(b.sh("head -c 5 /block"), "alpha")
        check_equal(b.exec("sh", "-c", "printf gamma > /block").exit_code, 1)
        for attempt in (1, 2):
            a.stop(grace=0)
            a = pod.start("a", "sleep", "1000", devices=[device], attempt=attempt)
            check_equal(a.sh("head -c 5 /dev/block"), "alpha")
        check(not loop.is_free(), "the VM has it")
        for c in (a, b):
            c.stop(grace=0)
        proc.wait_until(loop.is_free, 20, "nobody has it any more")
        check_equal(loop.read(), "alpha")
    os.unlink(loop.image)


@test(deadline=180, vm=True)
def a_privileged_container_of_a_pod_with_the_hosts_devices(ctx):
    """A runtime handler without privileged_without_host_devices: containerd lists all of them."""
    privileged = {"security_context": {"privileged": True}}
    with kubelet(ctx) as k, Pod(k, ctx.new_id(), linux=privileged, handler="bulkhead-all-devices") as pod:
        before = ctx.cri.log_size()
        a = pod.start("a", "sleep", "1000", linux=privileged)
        check("/dev/kmsg" in ctx.cri.config_json(a.id), "they are in its config.json")
        check_equal([d for d in a.sh("ls /dev").split() if d.startswith(("sd", "vd", "loop", "kvm", "mem", "kmsg"))], [])
        check_contains(a.sh("cat /proc/self/status"), "CapEff:\t000001ff")
        lines = [l for l in ctx.cri.log_since(before).splitlines() if "as a privileged container has them" in l]
        check_equal(len(lines), 1, lines)
