"""Bad input is one clear sentence, whoever finds it, and leaves nothing behind."""

import json
import os
import re
import shutil

from lib import image, lab, proc, ttrpc
from lib.runner import check, check_contains, check_equal, each, test
from lib.shim import HandMade

SENTENCE_MAX = 600


def start_and_create(hand, rootfs, streams):
    """The sentence of whichever step refuses: `start` on stderr, or Create."""
    result = hand.start_raw()
    if result.code != 0:
        check_equal((result.code, result.out), (1, b""), result)
        return result.errtext
    hand.address = result.text.strip()
    task = hand.task()
    try:
        task.create(hand.id, hand.bundle, rootfs, **streams)
    except ttrpc.RpcError as e:
        sentence = e.message
    except ttrpc.Lost as e:
        raise AssertionError(f"the shim ended without a word: {e}\n{hand.log()}") from None
    else:
        raise AssertionError("Create succeeded")
    task.close()
    after = hand.delete()  # as containerd does after a Create that failed
    check_equal(after.code, 0, after)
    return sentence


def refused(hand, *words, rootfs=None, **streams):
    """start, Create: one of them must refuse, in one sentence that has all the words."""
    sentence = start_and_create(hand, hand.overlay() if rootfs is None else rootfs, streams).strip()
    check(sentence and "\n" not in sentence, f"not one line: {sentence!r}")
    check(len(sentence) <= SENTENCE_MAX, f"{len(sentence)} bytes: {sentence!r}")
    for word in words:
        check(re.search(word, sentence, re.I), f"/{word}/ is not in: {sentence!r}")


def hand_made(ctx, **settings):
    bin_dir = ctx.other_prefix(**settings) if settings else None
    return HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir)


# -- config.json

@each(["garbage", "empty", "array", "truncated"], vm=True)
def a_spec_that_is_none(ctx, kind):
    with hand_made(ctx) as hand:
        whole = json.dumps(hand.spec).encode()
        hand.write_spec({"garbage": b"\x00\xffnot json", "empty": b"", "array": b"[]",
                         "truncated": whole[:len(whole) // 2]}[kind])
        refused(hand, "config.json")


@test(vm=True)
def a_spec_that_is_not_there(ctx):
    with hand_made(ctx) as hand:
        os.unlink(os.path.join(hand.bundle, "config.json"))
        refused(hand, "config.json")


@each(["directory", "fifo", "link"], vm=True)
def a_spec_that_is_no_file(ctx, kind):
    with hand_made(ctx) as hand:
        path = os.path.join(hand.bundle, "config.json")
        os.unlink(path)
        if kind == "directory":
            os.mkdir(path)
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            os.symlink("/etc/hostname", path)
        refused(hand, "config.json")


@test(vm=True)
def a_spec_of_more_than_4_mib(ctx):
    with hand_made(ctx) as hand:
        hand.spec["annotations"] = {f"key{i}": "x" * 1000 for i in range(5000)}
        hand.write_spec()
        refused(hand, "config.json")


@test(vm=True)
def a_spec_nested_40_deep(ctx):
    with hand_made(ctx) as hand:
        deep = {}
        for _ in range(40):
            deep = {"in": deep}
        hand.spec["extra"] = deep
        hand.write_spec()
        refused(hand, "config.json")


@test(vm=True)
def a_spec_without_a_process(ctx):
    with hand_made(ctx) as hand:
        del hand.spec["process"]
        hand.write_spec()
        refused(hand, "process")


@test(vm=True)
def the_hosts_network_namespace_by_path(ctx):
    with hand_made(ctx) as hand:
        for ns in hand.spec["linux"]["namespaces"]:
            if ns["type"] == "network":
                ns["path"] = "/proc/self/ns/net"
        hand.write_spec()
        refused(hand, "hostNetwork is not available in a VM")


@test(vm=True)
def a_network_namespace_that_is_not_there(ctx):
    with hand_made(ctx) as hand:
        for ns in hand.spec["linux"]["namespaces"]:
            if ns["type"] == "network":
                ns["path"] = "/run/netns/nobody"
        hand.write_spec()
        refused(hand, "/run/netns/nobody")


@test(vm=True)
def a_path_that_is_no_network_namespace(ctx):
    """Something else, or a namespace of another type; nothing of it is joined."""
    for path in ("/proc/self/ns/mnt", "/proc/self/ns/user", "/etc/passwd", "/dev/zero", "/etc"):
        with hand_made(ctx) as hand:
            for ns in hand.spec["linux"]["namespaces"]:
                if ns["type"] == "network":
                    ns["path"] = path
            hand.write_spec()
            refused(hand, f"{path} is not a network namespace")


# -- the root file system

@test(vm=True)
def no_rootfs(ctx):
    with hand_made(ctx) as hand:
        os.rmdir(hand.rootfs_dir)
        refused(hand, "rootfs", rootfs=[])


@test(vm=True)
def a_rootfs_of_an_unknown_type(ctx):
    with hand_made(ctx) as hand:
        refused(hand, "nfs", rootfs=[("nfs", "server:/export", ["rw"])])


@test(vm=True)
def a_rootfs_whose_layer_is_gone(ctx):
    with hand_made(ctx) as hand:
        mounts = hand.overlay()
        shutil.rmtree(os.path.join(hand.dir, "lower"))
        refused(hand, "lower", rootfs=mounts)


@each(["/etc", "/", "/proc/1/root", "/var/tmp/../../etc", "relative"], vm=True)
def a_rootfs_from_elsewhere_on_the_host(ctx, source):
    with hand_made(ctx) as hand:
        refused(hand, "rootfs_prefix|absolute path", rootfs=[("bind", source, ["rbind", "rw"])])


@test(vm=True)
def a_rootfs_that_leaves_its_prefix_by_a_link(ctx):
    with hand_made(ctx) as hand:
        link = os.path.join(hand.dir, "link")
        os.symlink("/etc", link)
        refused(hand, "link|symlink|prefix", rootfs=[("bind", link, ["rbind", "rw"])])


@test(vm=True)
def more_than_a_hundred_layers(ctx):
    with hand_made(ctx) as hand:
        (kind, source, options), = hand.overlay()
        lower = options.pop().split("=")[1]
        options.append("lowerdir=" + ":".join([lower] * 101))
        refused(hand, "100", rootfs=[(kind, source, options)])


# -- streams

@test(vm=True)
def a_stream_that_is_a_file(ctx):
    with hand_made(ctx) as hand:
        path = os.path.join(hand.io, "stdout")
        open(path, "w").close()
        refused(hand, "stdout", "FIFO", stdout=path)
        check_equal(os.path.getsize(path), 0, "the file was written")


@test(vm=True)
def a_stream_that_is_not_there(ctx):
    with hand_made(ctx) as hand:
        refused(hand, "stdout", stdout=os.path.join(hand.io, "nobody"))


@test(vm=True)
def a_stream_from_elsewhere_on_the_host(ctx):
    with hand_made(ctx) as hand:
        os.mkfifo("/run/elsewhere")
        try:
            refused(hand, "stdio_prefix", stdout="/run/elsewhere")
        finally:
            os.unlink("/run/elsewhere")


@test(vm=True)
def a_stream_of_an_unknown_scheme(ctx):
    with hand_made(ctx) as hand:
        refused(hand, "stdout", stdout="gopher://host/log")


# -- what the host should have

@each([("qemu", "/no/such/qemu"), ("virtiofsd", "/no/such/virtiofsd"), ("kernel", "/no/such/kernel"),
       ("initrd", "/no/such/initrd")], vm=True)
def not_installed(ctx, key, path):
    with hand_made(ctx, **{key: path}) as hand:
        refused(hand, path)


@each([("always", "/usr/lib/qemu/virtiofsd", "virtio_fs_cache=always: auto or keep"),
       ("keep", "/usr/bin/true", "virtio_fs_cache=keep: /usr/bin/true would not ask the host again")], vm=True)
def a_cache_that_cannot_be_had(ctx, cache, virtiofsd, sentence):
    with hand_made(ctx, virtiofsd=virtiofsd, virtio_fs_cache=cache) as hand:
        refused(hand, sentence)


@each([("colour", "red", "colour"), ("memory_mib", "lots", "memory_mib"), ("accel", "magic", "accel")],
      vm=True)
def a_configuration_that_is_wrong(ctx, key, value, word):
    with hand_made(ctx, **{key: value}) as hand:
        refused(hand, word)


def of_a_user(path):
    os.mkdir(path)
    os.chown(path, 1000, 1000)


def for_all(path):
    os.mkdir(path)
    os.chmod(path, 0o777)


def a_link(path):
    os.mkdir(f"{path}-target")
    os.symlink(f"{path}-target", path)


def a_file(path):
    with open(path, "w"):
        pass


@each([("user", of_a_user), ("mode", for_all), ("link", a_link), ("file", a_file)], vm=True)
def a_directory_of_ours_that_somebody_else_made(ctx, kind, make):
    """Nothing is put where others may look, or swap: not in the run directory, not in that of the leases."""
    for inner in ("", "uids"):
        path = os.path.join(lab.work_dir(), f"run-{ctx.new_id()}")
        if inner:
            os.mkdir(path, 0o700)
        make(os.path.join(path, inner).rstrip("/"))
        with hand_made(ctx, run_dir=path) as hand:
            refused(hand, "is not a directory that only root can write|File exists|Not a directory")
        for left in (path, f"{path}-target"):
            if os.path.isdir(left) and not os.path.islink(left):
                check_equal([n for n in os.listdir(left) if not n.startswith("uids")], [], left)


@test(vm=True)
def a_directory_of_sockets_that_is_not_roots(ctx):
    path = "/run/containerd/s"
    os.makedirs(path, mode=0o711, exist_ok=True)
    for spoil, mend in ((lambda: os.chown(path, 1000, 0), lambda: os.chown(path, 0, 0)),
                        (lambda: os.chmod(path, 0o777), lambda: os.chmod(path, 0o711))):
        before = sorted(os.listdir(path))
        spoil()
        try:
            with hand_made(ctx) as hand:
                refused(hand, "/run/containerd/s is not a directory only root can write")
            check_equal(sorted(os.listdir(path)), before)
        finally:
            mend()


# -- a VM that does not come up

@test(vm=True)
def something_else_than_qemu(ctx):
    """It ends at once, by itself or because QEMU's filter forbids what it does."""
    with hand_made(ctx, qemu=image.busybox_path()) as hand:
        refused(hand, "QEMU ended with status")


@test(vm=True)
def qemu_dies_before_it_answers(ctx):
    """Its own last words on stderr are in the sentence."""
    path = os.path.join(lab.work_dir(), "not-a-kernel")
    with open(path, "wb") as f:
        f.write(b"not a kernel\n" * 1000)
    with hand_made(ctx, kernel=path, cmdline="quiet") as hand:
        refused(hand, "QEMU ended with status 1", "kernel too old")


def initrd_without_agent():
    """An empty archive: the guest's kernel finds no /init and panics."""
    path = os.path.join(lab.work_dir(), "empty-initrd")
    empty = os.path.join(lab.work_dir(), "empty")
    os.makedirs(empty, exist_ok=True)
    with open(path, "wb") as f:
        f.write(proc.run(["sh", "-c", "find . | cpio -o -H newc --quiet"], cwd=empty, check=True).out)
    return path


@test(vm=True)
def an_agent_that_never_says_hello(ctx):
    with hand_made(ctx, initrd=initrd_without_agent(), hello_timeout_ms=8000) as hand:
        refused(hand, "agent|hello|guest")


# -- the way of a user

@test(vm=True)
def ctr_shows_the_sentence(ctx):
    shim = os.path.join(ctx.other_prefix(qemu="/no/such/qemu"), "containerd-shim-bulkhead-v2")
    c, cid = ctx.containerd, ctx.new_id()
    result = c.ctr("run", "--runtime", shim, image.BUSYBOX, cid, "true")
    check(result.code != 0, result)
    check_contains(result.errtext, "/no/such/qemu")
    c.ctr("container", "rm", cid)


@test(vm=True)
def others_are_unaffected(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    pid = c.run_detached(image.BUSYBOX, cid, "sleep", "1000")
    with hand_made(ctx, kernel="/no/such/kernel") as hand:
        refused(hand, "/no/such/kernel")
    with hand_made(ctx) as hand:
        refused(hand, "nfs", rootfs=[("nfs", "server:/export", [])])
    check_equal(c.tasks()[cid], (pid, "RUNNING"))
    c.remove(cid)
