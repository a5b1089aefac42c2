"""The tests' own tools are tried first: a check that cannot fail proves nothing."""

import os
import resource
import socket
import subprocess
import sys
import time

from lib import lab, leaks, proc
from lib.proc import Deadline
from lib.runner import check, check_equal, test


class Planted:
    """Starts a process that makes something and holds it until the end of the block."""

    def __init__(self, *argv):
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        check_equal(self.child.stdout.readline(), b"ready\n", "the planted process")
        return self.child

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait(10)


def in_namespaces(options, script):
    return Planted("unshare", *options, "sh", "-c", f"{script}\necho ready\nread _")


def found(before, *words):
    """Some new thing has all the words in its description."""
    new = leaks.Snapshot().new_since(before)
    check(any(all(w in line for w in words) for line in new), f"no {words} among the new things: {new}")


@test()
def nothing_is_new_when_nothing_happens(ctx):
    before = leaks.Snapshot()
    time.sleep(0.1)
    check_equal(leaks.Snapshot().new_since(before), [])


@test()
def a_process_left_is_found(ctx):
    before = leaks.Snapshot()
    with Planted("sh", "-c", "echo ready; read _") as child:
        found(before, f"process {child.pid} sh")


@test()
def a_zombie_counts_as_gone(ctx):
    before = leaks.Snapshot()
    child = subprocess.Popen(["true"])
    proc.wait_until(lambda: proc.state(child.pid) == "Z", 5, "a zombie")
    check_equal(leaks.Snapshot().new_since(before), [])
    child.wait()


@test()
def orphans_are_reaped(ctx):
    out = proc.run(["sh", "-c", "sleep 0.05 & echo $!"], check=True)
    pid = int(out.text)
    proc.wait_until(lambda: proc.state(pid) is None, 2, "the orphan is reaped by the lab's PID 1")


@test()
def a_mount_left_here_is_found(ctx):
    before = leaks.Snapshot()
    where = os.path.join(lab.work_dir(), "planted")
    os.mkdir(where)
    proc.run(["mount", "-t", "tmpfs", "planted", where], check=True)
    found(before, "mount planted", where)
    proc.run(["umount", where], check=True)
    os.rmdir(where)


@test()
def a_mount_left_in_another_namespace_is_found(ctx):
    before = leaks.Snapshot()
    with in_namespaces(["--mount", "--propagation", "private"], "mount -t tmpfs planted /mnt"):
        found(before, "mount planted (tmpfs) on /mnt")


@test()
def a_network_namespace_left_is_found(ctx):
    before = leaks.Snapshot()
    with in_namespaces(["--net"], "ip link add planted type veth peer name other"):
        found(before, "network namespace net:[")
        found(before, "link planted in net:[")
        found(before, "link lo in net:[")


@test()
def a_bound_network_namespace_is_found(ctx):
    before = leaks.Snapshot()
    proc.run(["ip", "netns", "add", "planted"], check=True)
    found(before, "bound on /run/netns/planted")
    proc.run(["ip", "netns", "del", "planted"], check=True)
    # `ip` has made the directory a mount point of its own.
    proc.run(["umount", "/run/netns"], check=True)


@test()
def a_qdisc_left_is_found(ctx):
    proc.run(["ip", "link", "add", "planted", "type", "veth", "peer", "name", "other"], check=True)
    before = leaks.Snapshot()
    proc.run(["tc", "qdisc", "add", "dev", "planted", "ingress"], check=True)
    found(before, "qdisc ingress", "planted")
    proc.run(["ip", "link", "del", "planted"], check=True)


@test()
def a_cgroup_left_is_found_in_every_hierarchy(ctx):
    for mount in lab.cgroup_mounts():
        before = leaks.Snapshot()
        path = f"{mount}/{lab.token()}/planted"
        os.makedirs(path)
        found(before, f"cgroup {path}")
        os.rmdir(path)


@test()
def a_socket_left_is_found(ctx):
    before = leaks.Snapshot()
    os.makedirs(leaks.SOCKETS, exist_ok=True)
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{leaks.SOCKETS}/planted")
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0planted")
    found(before, f"socket {leaks.SOCKETS}/planted")
    found(before, "abstract socket @planted")
    s.close()
    abstract.close()
    os.unlink(f"{leaks.SOCKETS}/planted")


@test()
def a_sandbox_directory_and_a_uid_lease_are_found(ctx):
    before = leaks.Snapshot()
    for name in ("0123456789abcdef", "uids/7"):
        os.makedirs(f"{leaks.RUN_DIR}/{name}")
        found(before, f"{leaks.RUN_DIR}/{name}")
        os.rmdir(f"{leaks.RUN_DIR}/{name}")


@test()
def open_files_are_counted(ctx):
    """The kernel counts per CPU and folds in batches of some tens, and another lab has its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = leaks.open_files()
    files = [open("/dev/null") for _ in range(3000)]
    check(leaks.open_files() - before > 2000, "three thousand open files are not seen")
    for f in files:
        f.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@test(leaks=False)
def what_is_left_after_the_settle_time_fails(ctx):
    before = leaks.Snapshot()
    with Planted("sh", "-c", "echo ready; read _"):
        try:
            leaks.assert_none(before, settle=0.3)
        except AssertionError as e:
            check("process" in str(e), e)
        else:
            raise AssertionError("the leak check let a process pass")
    leaks.assert_none(before)


@test()
def a_command_that_hangs_is_ended(ctx):
    began = time.monotonic()
    try:
        proc.run(["sh", "-c", "sleep 100 & sleep 100"], deadline=0.3)
    except Deadline:
        check(time.monotonic() - began < 5, "ended late")
    else:
        raise AssertionError("the deadline did not fire")


@test()
def nothing_outside_the_lab_is_visible(ctx):
    check_equal(proc.comm(1), os.path.basename(sys.executable), "PID 1")
    check(len(proc.pids()) < 30, "processes of the machine are visible")
    check(not os.path.exists("/run/systemd"), "/run is the machine's")
