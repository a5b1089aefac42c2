"""The container's root: read-only or not, many layers, owners and modes on both sides."""

import os
import stat

from lib import image
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, each, test
from lib.shim import HandMade


@test()
def a_read_only_root(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c",
                                   "cat /etc/group >/dev/null && touch /new", options=("--read-only",))
    check_equal(result.code, 1, result)
    check_contains(result.errtext, "Read-only file system")


def root_mounts(sandbox):
    """Mount options of every container's root, in the namespaces of those that hold it."""
    found = {}
    for role in ("mountd", "virtiofsd"):
        with open(f"/proc/{sandbox.roles()[role]}/mountinfo") as f:
            for line in f:
                fields = line.split()
                if fields[4].endswith("/rootfs"):
                    found[(role, fields[4])] = fields[5].split(",")
    return found


@each([("ro", ["--read-only"]), ("rw", [])], vm=True)
def the_root_on_the_host(ctx, access, options):
    """Not the guest alone keeps a read-only root read-only: a hostile one writes by itself."""
    c, cid = ctx.containerd, ctx.new_id()
    mounts = root_mounts(Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000", options=options)))
    c.remove(cid)
    check_equal({role for role, _ in mounts}, {"mountd", "virtiofsd"}, f"who has the root: {mounts}")
    for where, have in mounts.items():
        check_equal(have[0], access, where)
        check("nodev" in have, f"{where}: {have}")


@test()
def a_root_that_can_be_written(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c",
                                   "echo kept >/etc/new && cat /etc/new && rm /etc/group && ls /etc")
    check_equal(result.text, "kept\nnew\npasswd\n", result)


@test()
def what_one_container_writes_another_does_not_see(ctx):
    c = ctx.containerd
    c.run_rm(image.BUSYBOX, ctx.new_id(), "touch", "/etc/mine")
    check_equal(c.run_rm(image.BUSYBOX, ctx.new_id(), "test", "-e", "/etc/mine").code, 1)


@test(leaks=False)
def an_image_of_forty_layers(ctx):
    """No leak check: the image's unpacked layers stay, and are what is wanted."""
    result = ctx.containerd.run_rm(ctx.image("layers"), ctx.new_id(), "sh", "-c",
                                   "ls /layers | wc -l; cat /layers/last /layers/1 /layers/39")
    check_equal(result.text, "40\n39\n1\n39\n", result)


@test(leaks=False)
def owners_and_modes_of_the_image(ctx):
    result = ctx.containerd.run_rm(ctx.image("owners"), ctx.new_id(), "sh", "-c",
                                   "cd /owned && stat -c '%n %u:%g %a' u0 u33 u1000 setuid sticky")
    check_equal(result.text.splitlines(), ["u0 0:0 640", "u33 33:33 640", "u1000 1000:1000 640",
                                           "setuid 1000:33 4755", "sticky 33:1000 2770"], result)


@test()
def owners_and_modes_of_new_files_on_the_host(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    result = c.run(image.BUSYBOX, cid, "sh", "-c", """
        cd /root && echo one >plain && echo two >owned && chown 1000:33 owned && chmod 640 owned &&
        echo three >setuid && chmod 4755 setuid && ln -s plain link && mkdir -m 700 dir && sync""")
    check_equal(result.code, 0, result)
    root = os.path.join(c.upper_dir(cid), "root")
    seen = {}
    for name in os.listdir(root):
        s = os.lstat(os.path.join(root, name))
        seen[name] = (s.st_uid, s.st_gid, stat.filemode(s.st_mode))
    check_equal(seen, {"plain": (0, 0, "-rw-r--r--"), "owned": (1000, 33, "-rw-r-----"),
                       "setuid": (0, 0, "-rwsr-xr-x"), "link": (0, 0, "lrwxrwxrwx"),
                       "dir": (0, 0, "drwx------")})
    with open(os.path.join(root, "owned")) as f:
        check_equal(f.read(), "two\n")
    c.remove(cid)


# What programs do with files, each by a request of its own to virtiofsd. (command, what it prints)
REQUESTS = [
    ("truncate -s 100 f && stat -c %s f", "100"),
    ("fallocate -l 8192 g && stat -c %s g", "8192"),
    ("dd if=/dev/zero of=d bs=100 count=3 conv=fsync 2>/dev/null && stat -c %s d", "300"),
    ("echo x >s && sync -d s && sync -f s && cat s", "x"),
    ("chmod 640 f && stat -c %a f", "640"),
    ("chown 7:8 f && stat -c %u:%g f", "7:8"),
    ("touch -d @86400 f && stat -c %Y f", "86400"),
    ("ln f hard && stat -c %h f", "2"),
    ("ln -s f soft && readlink soft", "f"),
    ("mkfifo p && stat -c %F p", "fifo"),
    ("mv f moved && ls -d moved", "moved"),
    ("mkdir dir && mv moved dir/ && ls dir", "moved"),
    ("echo old >o && echo new >n && mv n o && cat o", "new"),
    ("exec 3>>a; echo 1 >&3; rm a; echo 2 >&3; exec 3>&-; ls a 2>/dev/null || echo gone", "gone"),
    ("ls -d . && df . >/dev/null && echo counted", ".\ncounted"),
    ("rm -r dir && ls -d dir 2>/dev/null || echo none", "none"),
    ("mknod null c 1 3 2>/dev/null || echo refused", "refused"),
]


@test()
def what_programs_do_with_files(ctx):
    script = "cd /root\n" + "\n".join(f"( {command} ) || echo FAILED: {number}"
                                      for number, (command, _) in enumerate(REQUESTS))
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c", script)
    check_equal(result.text, "".join(f"{printed}\n" for _, printed in REQUESTS), result)


@test()
def the_file_of_a_user(ctx):
    with HandMade(ctx.containerd, ctx.new_id(),
                  cmd=["sh", "-c", "id; touch /tmp/mine; mkdir /etc/not"]) as hand:
        hand.spec["process"]["user"] = {"uid": 1000, "gid": 33}
        hand.write_spec()
        task = hand.run()
        check_equal(task.wait(hand.id), 1, "a user makes a directory in /etc")
        check_contains(os.read(hand.stdout, 100).decode(), "uid=1000(user) gid=33")
        s = os.stat(os.path.join(hand.upper, "tmp/mine"))
        check_equal((s.st_uid, s.st_gid), (1000, 33))
        task.delete(hand.id)
        hand.end(task)
