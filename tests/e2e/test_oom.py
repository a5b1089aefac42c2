"""Memory that runs out, in the guest or on the host: whoever asks is told, before the exit."""

import contextlib
import os
import stat

from lib import image, lab, proc
from lib.containerd import Events
from lib.cri import Pod, kubelet
from lib.proc import Sandbox
from lib.runner import Skip, check, check_contains, check_equal, each, test

MIB = 1 << 20
KILLED_BY_HOST = "the host's OOM killer ended"
CAP_SYS_RESOURCE = 24

# More than the VM has touched by then.
HOG = ("dd", "if=/dev/zero", "of=/dev/null", "bs=250M", "count=1")


def memory_cgroup(pid):
    """The directory of the cgroup in which the kernel counts a process's memory, and its limit's file."""
    paths = proc.cgroups(pid)
    for mount in lab.cgroup_mounts():
        for controllers, path in paths.items():
            at = mount + path
            # A child without the controller: its parent's it is.
            while at != mount and "memory" in (controllers or "memory"):
                for limit in ("memory.max", "memory.limit_in_bytes"):
                    if os.path.exists(os.path.join(at, limit)):
                        return at, limit
                at = os.path.dirname(at)
    raise AssertionError(f"{proc.describe(pid)} has no memory cgroup: {paths}")


def adjust(pid, value):
    with open(f"/proc/{pid}/oom_score_adj", "w") as f:
        f.write(str(value))


def squeeze(sandbox, victim):
    """The sandbox's cgroup has all that it may use, but for a little; then the kernel takes the victim first."""
    qemu = sandbox.roles()["qemu"]
    at, limit = memory_cgroup(qemu)
    usage = {"memory.max": "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}[limit]
    for pid in proc.pids():
        # virtiofsd's second process is in a namespace of its own.
        if proc.role(pid) == victim and proc.cgroups(pid) == proc.cgroups(qemu):
            adjust(pid, 1000)
    if victim != "qemu":
        adjust(qemu, -500)
    with open(os.path.join(at, usage)) as f:
        used = int(f.read())
    with open(os.path.join(at, limit), "w") as f:
        f.write(str(used + 8 * MIB))


def check_marked(bundle):
    st = os.lstat(os.path.join(bundle, "oom"))
    check(stat.S_ISREG(st.st_mode), oct(st.st_mode))
    check_equal((st.st_size, st.st_uid), (0, 0))


def check_told(events, cid):
    """Out of memory, then the one exit. An exec's is among the events too."""
    topics = [t for t, _ in events.of(cid)]
    check_equal(events.statuses(cid), [137], topics)
    check("/tasks/oom" in topics, topics)
    check(topics.index("/tasks/oom") < topics.index("/tasks/exit"), topics)


@test(vm=True)
def in_the_guest(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    with Events(c) as events:
        c.run_detached(image.BUSYBOX, cid, "sh", "-c", "exec tail /dev/zero", options=("--memory-limit", str(16 * MIB)))
        proc.wait_until(lambda: events.statuses(cid), 60, "the exit")
        check_marked(c.bundle(cid))
        check_told(events, cid)
        check_equal(c.task_rm_status(cid), 137)
        c.ctr("container", "rm", cid)
        check(not os.path.exists(c.bundle(cid)), "the bundle is there")


@each([("qemu", "QEMU"), ("virtiofsd", "virtiofsd")], vm=True)
def on_the_host(ctx, victim, name):
    """The kernel ends a part of the VM for its memory: the containers have ended for want of it."""
    if victim != "qemu" and not int(proc.status_field("self", "CapEff"), 16) >> CAP_SYS_RESOURCE & 1:
        raise Skip("no CAP_SYS_RESOURCE: QEMU cannot be spared")
    c, cid = ctx.containerd, ctx.new_id()
    with Events(c) as events:
        sandbox = Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000"))
        before = c.log_size()
        squeeze(sandbox, victim)
        c.exec(cid, "e", *HOG)
        proc.wait_until(lambda: events.statuses(cid), 60, "the exit")
        check_marked(c.bundle(cid))
        check_told(events, cid)
        check_contains(c.log_since(before), f"{KILLED_BY_HOST} {name}", "raise the limit of that cgroup",
                       f"dead: {KILLED_BY_HOST} {name}")
        check_equal(c.task_rm_status(cid), 137)
        c.ctr("container", "rm", cid)
        check(not os.path.exists(c.bundle(cid)), "the bundle is there")


@test(vm=True)
def a_vm_that_is_killed_otherwise(ctx):
    """By SIGKILL too, but not for its memory."""
    c, cid = ctx.containerd, ctx.new_id()
    with Events(c) as events:
        sandbox = Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000"))
        before = c.log_size()
        os.kill(sandbox.roles()["qemu"], 9)
        proc.wait_until(lambda: events.statuses(cid), 30, "the exit")
        check("/tasks/oom" not in [t for t, _ in events.of(cid)], events.of(cid))
        check(not os.path.exists(os.path.join(c.bundle(cid), "oom")), "the bundle is marked")
        check(KILLED_BY_HOST not in c.log_since(before), c.log_since(before))
        check_equal(c.task_rm_status(cid), 137)
        c.ctr("container", "rm", cid)


@test(deadline=180, vm=True)
def of_a_pod_on_the_host(ctx):
    """Kubernetes has the reason of all its containers, which is not their own fault."""
    with kubelet(ctx) as k, Pod(k, ctx.new_id()) as pod:
        containers = [pod.start(name, "sleep", "1000") for name in ("idle", "hog")]
        squeeze(Sandbox(ctx.cri.task_pid(pod.id)), "qemu")
        with contextlib.suppress(k.grpc.RpcError):
            containers[1].exec(*HOG)
        for container in containers:
            check_equal((container.wait(), container.status().reason), (137, "OOMKilled"))
