"""Pods, as Kubernetes makes them: containerd's CRI plugin, one VM for each pod."""

import concurrent.futures
import contextlib
import json
import math
import os
import time

from lib import lab, leaks, proc
from lib.cri import Pod, kubelet
from lib.runner import check, check_contains, check_equal, each, test
from lib.streaming import Stream, exit_code

MIB = 1 << 20
OOM_KILLED = "OOMKilled"


@test(deadline=240, vm=True)
def an_init_container_and_three_more(ctx):
    with kubelet(ctx) as k, Pod(k, ctx.new_id()) as pod:
        init = pod.start("init", "sh", "-c", "echo prepared")
        check_equal((init.wait(), init.log()), (0, "prepared\n"))
        init.remove()

        a = pod.start("a", "sh", "-c", "echo one; sleep 1000")
        b = pod.start("b", "sh", "-c", "trap 'echo bye; exit 7' TERM; echo two; while :; do sleep 0.1; done")
        c = pod.start("c", "sh", "-c", "echo three >&2; exit 5")
        check_equal((c.wait(), c.log("stderr"), c.log()), (5, "three\n", ""))
        check_equal((a.state(), a.log(), b.state()), ("running", "one\n", "running"))

        r = a.exec("sh", "-c", "echo out; echo err >&2; exit 3")
        check_equal((r.stdout, r.stderr, r.exit_code), (b"out\n", b"err\n", 3))
        check_contains(k.refused("ExecSync", container_id=a.id, cmd=["/nonexistent"]), "/nonexistent", "not found")
        check_contains(k.refused("ExecSync", container_id=a.id, cmd=["sleep", "1000"], timeout=1), "timeout")

        k.call("UpdateContainerResources", container_id=a.id, linux={"memory_limit_in_bytes": 64 * MIB})
        check_equal(int(a.sh("cat /sys/fs/cgroup/memory.max")), 64 * MIB)
        stats = k.call("ContainerStats", container_id=a.id).stats
        check(0 < stats.cpu.usage_core_nano_seconds.value < 1000e9, stats)
        check(0 < stats.memory.working_set_bytes.value < 64 * MIB, stats)

        b.stop()
        check_equal((b.status().exit_code, b.log()), (7, "two\nbye\n"))
        check_equal((a.state(), pod.state()), ("running", "ready"))
        a.stop(grace=0)
        check_equal(a.status().exit_code, 137)


@test(deadline=240, vm=True)
def one_that_crashes_and_one_without_memory_disturb_nobody(ctx):
    with kubelet(ctx) as k, Pod(k, ctx.new_id()) as pod:
        a = pod.start("a", "sh", "-c", "while :; do date +%s; sleep 1; done")
        for attempt in range(2):
            crash = pod.start("crash", "sh", "-c", "exit 1", attempt=attempt)
            check_equal(crash.wait(), 1)
            crash.remove()
        oom = pod.start("oom", "tail", "/dev/zero", linux={"resources": {"memory_limit_in_bytes": 16 * MIB}})
        check_equal((oom.wait(), oom.status().reason), (137, OOM_KILLED))
        seen = a.log()
        proc.wait_until(lambda: a.log() != seen, 10, "the other one goes on")
        check_equal(pod.state(), "ready")


@test(deadline=240, vm=True)
def attach_exec_and_port_forward(ctx):
    with kubelet(ctx) as k, Pod(k, ctx.new_id()) as pod:
        cat = pod.start("cat", "sh", "-c", "cat; echo end; exit 4", stdin=True, stdin_once=True)
        s = Stream(k.call("Attach", container_id=cat.id, stdin=True, stdout=True, stderr=True).url)
        s.send(b"hello\n")
        s.until(b"hello\n")
        s.close()
        check_equal((cat.wait(), cat.log()), (4, "hello\nend\n"))

        shell = pod.start("shell", "sh", stdin=True, tty=True)
        s = Stream(k.call("Attach", container_id=shell.id, stdin=True, stdout=True, tty=True).url)
        s.resize(91, 17)
        s.send(b"\n")
        s.until(b"# ")
        s.send(b"stty size\n")
        s.until(b"17 91")
        s.send(b"exit 6\n")
        check_equal(shell.wait(), 6)
        s.close()

        a = pod.start("a", "sleep", "1000")
        s = Stream(k.call("Exec", container_id=a.id, cmd=["sh", "-c", "echo x >&2; echo y; exit 9"],
                          stdout=True, stderr=True).url)
        check_equal(exit_code(s.end()), 9)
        check_equal((s.got[1], s.got[2]), (b"y\n", b"x\n"))
        s = Stream(k.call("Exec", container_id=a.id, cmd=["cat"], stdin=True, stdout=True).url)
        s.send(b"into it\n")
        s.until(b"into it\n")
        s.close()

        # As with Kata: containerd itself dials inside the pod's namespace, and nobody of the guest listens there.
        s = Stream(k.call("PortForward", pod_sandbox_id=pod.id, port=[8080]).url + "?port=8080")
        s.send(b"GET", 0)
        s.until(b"connection refused", channel=1)
        s.close()


@test(deadline=240, vm=True)
def what_the_containers_of_a_pod_share(ctx):
    with kubelet(ctx) as k:
        linux = {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "77"},
                 "security_context": {"namespace_options": {"pid": "CONTAINER"}}}
        with Pod(k, ctx.new_id(), linux=linux,
                 dns_config={"servers": ["192.0.2.53"], "searches": ["a.example"], "options": ["ndots:3"]}) as pod:
            a, b = (pod.start(name, "sleep", "1000", linux={"security_context": linux["security_context"]})
                    for name in "ab")
            for ns, shared in (("ipc", True), ("uts", True), ("net", True), ("pid", False), ("mnt", False)):
                one, other = (c.sh(f"readlink /proc/self/ns/{ns}") for c in (a, b))
                check_equal(one == other, shared, ns)
            check_equal(a.sh("echo 12345 > /dev/shm/f; hostname").strip(), pod.name)
            check_equal(b.sh("cat /dev/shm/f").strip(), "12345")
            check_equal(b.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start").strip(), "77")
            check_contains(a.sh("cat /etc/resolv.conf"), "nameserver 192.0.2.53", "search a.example", "ndots:3")
            check_equal(a.sh("ps -o comm").split(), ["COMMAND", "sleep", "ps"])
            for address in pod.addresses():
                check_contains(b.sh("ip addr"), f" {address}/")
        with Pod(k, ctx.new_id()) as pod:  # CRI's default: one pid namespace for all
            a, b = pod.start("a", "sleep", "1001"), pod.start("b", "sleep", "1002")
            check_contains(a.sh("ps -o args"), "sleep 1001", "sleep 1002", "/bin/sleep 2147483647")
            check_contains(b.sh("kill -9 $(ps -o pid,args | awk '/[s]leep 1001/{print $1}'); echo killed"), "killed")
            check_equal(a.wait(), 137)


@each(["network", "pid", "ipc"], deadline=90, vm=True)
def what_is_the_hosts_is_refused(ctx, kind):
    with kubelet(ctx) as k:
        pod = Pod(k, ctx.new_id(), linux={"security_context": {"namespace_options": {kind: "NODE"}}})
        said = k.refused("RunPodSandbox", config=pod.config, runtime_handler=pod.handler)
        name = {"network": "hostNetwork", "pid": "hostPID", "ipc": "hostIPC"}[kind]
        check_contains(said, f"{name} is not available in a VM: config.json asks for no {kind} namespace")
        check_equal(len(k.call("ListPodSandbox").items), 0)


@test(deadline=180, vm=True)
def a_vm_as_large_as_the_pod(ctx):
    """The guest's kernel keeps some of the memory for itself before it counts it."""
    limit, quota = 300 * MIB, 150000
    with kubelet(ctx) as k, Pod(k, ctx.new_id(), linux={"resources": {
            "memory_limit_in_bytes": limit, "cpu_quota": quota, "cpu_period": 100000}}) as pod:
        annotations = json.loads(ctx.cri.config_json(pod.id))["annotations"]
        if "io.kubernetes.cri.sandbox-memory" not in annotations:
            raise AssertionError(f"this containerd does not say how large a pod is: {sorted(annotations)}")
        a = pod.start("a", "sleep", "1000")
        check_equal(int(a.sh("nproc")), math.ceil(quota / 100000 + 0.2))
        total = int(a.sh("sed -n 's/MemTotal: *//p' /proc/meminfo").split()[0]) * 1024
        check(limit + 40 * MIB < total <= limit + 128 * MIB, f"{total / MIB:.0f} MiB for a pod of {limit // MIB}")


def limits(k, container, **limits):
    k.call("UpdateContainerResources", container_id=container.id, linux=limits)


def total_mib(container):
    return int(container.sh("sed -n 's/MemTotal: *//p' /proc/meminfo").split()[0]) // 1024


@test(deadline=300, vm=True)
def a_vm_that_grows(ctx):
    """Two containers of a pod: what one is given more comes to the VM before its limit says so."""
    with kubelet(ctx) as k, Pod(k, ctx.new_id(), linux={"resources": {
            "memory_limit_in_bytes": 200 * MIB, "cpu_quota": 80000, "cpu_period": 100000}}) as pod:
        a = pod.start("a", "sleep", "1000", linux={"resources": {
            "memory_limit_in_bytes": 100 * MIB, "cpu_quota": 40000, "cpu_period": 100000}})
        b = pod.start("b", "sleep", "1000", linux={"resources": {
            "memory_limit_in_bytes": 100 * MIB, "cpu_quota": 40000, "cpu_period": 100000}})
        before = total_mib(a)
        check_equal(int(a.sh("nproc")), 1)
        check(before < 328, f"{before} MiB")
        # What fits makes nothing larger.
        limits(k, a, memory_limit_in_bytes=90 * MIB)
        check_equal((int(a.sh("nproc")), total_mib(a)), (1, before))

        limits(k, a, memory_limit_in_bytes=600 * MIB, cpu_quota=140000, cpu_period=100000)
        check_equal((int(a.sh("nproc")), int(b.sh("nproc"))), (2, 2), "0.2 + 0.4 + 1.4 CPUs")
        check_equal(total_mib(b) - before, 512, "128 + 100 + 600 MiB in steps of 128")
        check_equal(a.sh("cat /sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/cpu.max").split(),
                    [str(600 * MIB), "140000", "100000"])
        # One buffer, filled: more than the VM had at its start. It goes to a file and comes back past the
        # guest's cache: virtiofsd sees what was plugged, too.
        for way in ("if=/dev/zero of=/big oflag=direct", "if=/big of=/dev/null iflag=direct"):
            check_contains(a.sh(f"dd bs=300M count=1 {way} 2>&1"), "1+0 records in", "1+0 records out")
        check_equal(int(b.sh("cat /sys/fs/cgroup/memory.max")), 100 * MIB)

        # A VM does not shrink, and what it has is used again.
        limits(k, a, memory_limit_in_bytes=100 * MIB, cpu_quota=40000, cpu_period=100000)
        check_equal((int(a.sh("nproc")), total_mib(a)), (2, before + 512))
        limits(k, b, memory_limit_in_bytes=600 * MIB, cpu_quota=140000, cpu_period=100000)
        check_equal((int(b.sh("nproc")), total_mib(b)), (2, before + 512))


@test(deadline=300, vm=True)
def a_vm_does_not_grow_beyond_its_maximum(ctx):
    # Of emulated CPUs there are no more than the host has.
    cpus = 2 if ctx.accel == "kvm" else os.cpu_count()
    bin_dir = ctx.other_prefix(max_vcpus=2 if ctx.accel == "kvm" else 240, max_memory_mib=512)
    with kubelet(ctx, bin_dir) as k, Pod(k, ctx.new_id(), linux={"resources": {
            "memory_limit_in_bytes": 128 * MIB, "cpu_quota": 50000, "cpu_period": 100000}}) as pod:
        a = pod.start("a", "sleep", "1000", linux={"resources": {"memory_limit_in_bytes": 64 * MIB}})
        before = total_mib(a)
        for wanted, words in (
                ({"memory_limit_in_bytes": 385 * MIB}, ("need 513 MiB of memory", "max_memory_mib is 512")),
                ({"cpu_quota": cpus * 100000 - 19000, "cpu_period": 100000}, (f"need {cpus + 1} CPUs", f"max_vcpus is {cpus}"))):
            check_contains(k.refused("UpdateContainerResources", container_id=a.id, linux=wanted),
                           "with this limit the VM would ", *words)
            check_equal((int(a.sh("nproc")), total_mib(a)), (1, before))
            check_equal(int(a.sh("cat /sys/fs/cgroup/memory.max")), 64 * MIB)
            check_contains(a.sh("cat /sys/fs/cgroup/cpu.max"), "max")
        limits(k, a, memory_limit_in_bytes=384 * MIB, cpu_quota=cpus * 100000 - 20000, cpu_period=100000)
        check_equal((int(a.sh("nproc")), total_mib(a)), (cpus, before + 256))


class Parents:
    """The cgroup of a pod, as the kubelet makes it: in every hierarchy, and its to remove."""

    def __init__(self, path):
        self.dirs, self.made = [mount + path for mount in lab.cgroup_mounts()], []

    def __enter__(self):
        for mount, path in zip(lab.cgroup_mounts(), self.dirs, strict=True):
            at = mount
            for part in os.path.relpath(path, mount).split("/"):
                delegate(at)
                above, at = at, os.path.join(at, part)
                os.mkdir(at)
                self.made.append(at)
                copy(above, at, "cpuset.cpus", "cpuset.mems")  # one of v1 takes nobody before it has them
        return self

    def __exit__(self, *_):
        for path in reversed(self.made):
            os.rmdir(path)


def delegate(at):
    """As the kubelet: what is beneath has the controllers that a pod's limits and statistics come from."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(at, "cgroup.controllers")) as f:
        wanted = [f"+{c}" for c in f.read().split() if c in ("cpu", "memory", "pids")]
        with open(os.path.join(at, "cgroup.subtree_control"), "w") as to:
            to.write(" ".join(wanted))


def copy(above, at, *names):
    for name in names:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(above, name)) as f:
            value = f.read()
            if not os.path.exists(os.path.join(above, "cgroup.controllers")):
                with open(os.path.join(at, name), "w") as to:
                    to.write(value)




@each([("cgroupfs", "/kubepods{0}/burstable/pod7", "/kubepods{0}/burstable/pod7/{1}"),
       ("systemd", "/kubepods{0}.slice/kubepods{0}-pod7.slice",
        "/kubepods{0}.slice/kubepods{0}-pod7.slice/cri-containerd-{1}.scope")], deadline=180, vm=True)
def cgroups_of_a_pod(ctx, form, parent, own):
    """In every hierarchy all processes are beneath the pod's cgroup, whose limits count; pause has none."""
    unique = lab.token().replace("-", "")
    parent = parent.format(unique)
    with kubelet(ctx) as k, Parents(parent) as parents:
        linux = {"cgroup_parent": os.path.basename(parent) if form == "systemd" else parent}
        with Pod(k, ctx.new_id(), linux=linux) as pod:
            pod.start("a", "sleep", "1000", linux={"resources": {"memory_limit_in_bytes": 32 * MIB}})
            want = own.format(unique, pod.id)
            pids = proc.Sandbox(ctx.cri.task_pid(pod.id)).pids()
            check(len(pids) >= 7, pids)
            for pid in pids:
                for hierarchy, path in proc.cgroups(pid).items():
                    # One of v1 that nothing mounts has no path of ours.
                    child = path.removeprefix(want)
                    check(path.startswith(want) and child in ("", "/shim", "/vm") or path == "/",
                          f"{proc.describe(pid)}: {hierarchy or 'v2'}: {path}, not {want}")
            for path in parents.dirs:
                mine = path + want.removeprefix(parent)
                for name in ("memory.limit_in_bytes", "memory.max"):
                    if os.path.exists(os.path.join(mine, name)):
                        with open(os.path.join(mine, name)) as f:
                            value = f.read().strip()
                        check(value == "max" or int(value) > 1 << 60, f"{mine}/{name} is {value}")
        for path in parents.dirs:
            check_equal([d for d in os.listdir(path) if os.path.isdir(os.path.join(path, d))], [], path)


def pod_stats(k, pod):
    return k.call("PodSandboxStats", pod_sandbox_id=pod.id).stats.linux


@test(deadline=240, vm=True)
def stats_of_a_pod(ctx):
    """Of the pod what its cgroup on the host has: the VM. Of each container what the guest says of it."""
    parent = f"/kubepods{lab.token().replace('-', '')}stats/pod7"
    with kubelet(ctx) as k, Parents(parent), Pod(k, ctx.new_id(), linux={"cgroup_parent": parent}) as pod:
        a, b = (pod.start(name, "sleep", "1000") for name in "ab")
        before = pod_stats(k, pod)
        check_equal({s.attributes.id for s in before.containers}, {a.id, b.id})
        # 64 MiB of anonymous memory and some seconds of CPU in one of them; and packets.
        gateway = a.sh("ip route | sed -n 's/default via \\([^ ]*\\) .*/\\1/p'").strip()
        busy = "dd if=/dev/zero of=/dev/null bs=64M count=8 2>/dev/null; ping -c 2 -W 10"
        a.sh(f"{busy} {gateway} >/dev/null")
        proc.wait_until(lambda: pod_stats(k, pod).network.default_interface.rx_bytes.value
                        > before.network.default_interface.rx_bytes.value, 10, "packets are counted")
        after = pod_stats(k, pod)
        one, other = ({s.attributes.id: s for s in after.containers}[c.id] for c in (a, b))
        check(one.cpu.usage_core_nano_seconds.value > 5 * other.cpu.usage_core_nano_seconds.value, (one, other))
        check(after.cpu.usage_core_nano_seconds.value > before.cpu.usage_core_nano_seconds.value, after)
        # The guest's memory, as far as it was touched, and QEMU: more than a guest boots with.
        check(after.memory.working_set_bytes.value > 64 * MIB, after.memory)
        check(0 < other.memory.working_set_bytes.value < 64 * MIB, other.memory)
        check_equal(after.process.process_count.value, 2, "one for each container")
        check_equal(after.network.default_interface.name, "eth0")


@test(deadline=180, vm=True)
def the_pause_container_ends(ctx):
    with kubelet(ctx) as k, Pod(k, ctx.new_id()) as pod:
        a = pod.start("a", "sleep", "1000")
        ctx.cri.ctr("task", "kill", "--signal", "SIGKILL", pod.id, check=True)
        check_equal(a.wait(), 137)
        proc.wait_until(lambda: pod.state() == "notready", 20, "the pod is not ready")
        check_contains(pod.refused("late", ["true"]), "no running task found")


@test(deadline=240, vm=True)
def security_contexts(ctx):
    context = {"namespace_options": {"pid": "CONTAINER"}}
    with kubelet(ctx) as k:
        with Pod(k, ctx.new_id(), linux={"security_context": context}) as pod:
            a = pod.start("a", "sleep", "1000", linux={"security_context": {
                **context, "run_as_user": {"value": 1000}, "run_as_group": {"value": 2000},
                "supplemental_groups": [3000, 3001], "no_new_privs": True, "readonly_rootfs": True,
                "capabilities": {"drop_capabilities": ["ALL"]}, "seccomp": {"profile_type": "RuntimeDefault"}}})
            check_equal(a.sh("id -u; id -g; id -G").split(), ["1000", "2000", "2000", "3000", "3001"])
            status = a.sh("cat /proc/self/status")
            check_contains(status, "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000")
            check_equal(a.exec("touch", "/x").stderr, b"touch: /x: Read-only file system\n")
        with Pod(k, ctx.new_id(), linux={"security_context": {**context, "privileged": True}}) as pod:
            b = pod.start("b", "sleep", "1000", linux={"security_context": {**context, "privileged": True}})
            # The guest's devices and privileges, nobody else's.
            check_contains(b.sh("cat /proc/self/status"), "CapEff:\t000001ff")
            check_equal([d for d in b.sh("ls /dev").split() if d.startswith(("sd", "vd", "kvm", "mem"))], [])
            check_equal(b.sh("hostname new; hostname").strip(), "new")
            check(proc.run(["hostname"]).text.strip() != "new", "the host's name was changed")


@contextlib.contextmanager
def without_layers(cri):
    """The layers of all images are somewhere else for a while; what is mounted of them goes on."""
    snapshots = os.path.join(cri.root, "io.containerd.snapshotter.v1.overlayfs", "snapshots")
    moved = []
    try:
        for n in os.listdir(snapshots):
            path = os.path.join(snapshots, n, "fs")
            if os.path.isdir(os.path.join(path, "bin")):
                os.rename(path, path + ".away")
                moved.append(path)
        yield
    finally:
        for path in moved:
            os.rename(path + ".away", path)


def no_kernel(ctx):
    path = os.path.join(lab.work_dir(), "no-kernel")
    with open(path, "wb") as f:
        f.write(b"not a kernel\n" * 1000)
    return {"kernel": path, "cmdline": "quiet"}, {}


def no_agent(ctx):
    path = os.path.join(lab.work_dir(), "no-initrd")
    with open(path, "wb") as f:
        f.write(bytes(512))
    return {"initrd": path}, {}


@each([("kernel", no_kernel, "QEMU ended with status 1"),
       ("agent", no_agent, "wait for the guest's agent"),
       ("sysctl", lambda ctx: ({}, {"linux": {"sysctls": {"kernel.shm_no_such": "1"}}}), "create the container in the guest"),
       ("size", lambda ctx: ({}, {"linux": {"resources": {"cpu_quota": 100000000, "cpu_period": 100000}}}), "at most 240 CPUs"),
       ], deadline=240, vm=True)
def a_pod_that_cannot_be_made_leaves_nothing(ctx, phase, make, words):
    """And nobody is in the way of the next, which has the same name."""
    settings, config = make(ctx)
    name = ctx.new_id()
    with kubelet(ctx, ctx.other_prefix(**settings)) as k:
        before = leaks.Snapshot()
        pod = Pod(k, name, **config)
        check_contains(k.refused("RunPodSandbox", config=pod.config, runtime_handler=pod.handler), words)
        check_equal(len(k.call("ListPodSandbox").items), 0)
        leaks.assert_none(before)
        if settings:
            return
        with Pod(k, name) as pod:
            check_equal(pod.start("a", "sh", "-c", "exit 4").wait(), 4)


@test(deadline=240, vm=True)
def a_container_that_cannot_be_made_leaves_nothing(ctx):
    with kubelet(ctx) as k, Pod(k, ctx.new_id()) as pod:
        a = pod.start("a", "sleep", "1000")
        before = a.sh("mount; ls /run 2>/dev/null; cat /proc/meminfo | grep -c .")
        for name, config, words in (
                ("command", {"command": ["/nonexistent"]}, ("/nonexistent",)),
                ("user", {"command": ["sleep"], "linux": {"security_context": {"run_as_username": "nobody-here"}}},
                 ("no users found",)),
                ("cwd", {"command": ["sleep"], "working_dir": "/bin/busybox"}, ("create the container in the guest",)),
                ("volume", {"command": ["sleep"], "mounts": [{"container_path": "/p", "host_path": "/proc"}]},
                 ("/proc", "file system of the host's kernel"))):
            check_contains(pod.refused(name, config.pop("command"), **config), *words)
        c = pod.create("layer", "true")
        with without_layers(ctx.cri):
            check_contains(k.refused("StartContainer", container_id=c.id), "mount its file systems", "does not exist")
        c.remove()
        b = pod.start("b", "echo", "next")
        check_equal((b.wait(), b.log()), (0, "next\n"))
        check_equal(a.sh("mount; ls /run 2>/dev/null; cat /proc/meminfo | grep -c ."), before)


def in_parallel(calls, width=None):
    with concurrent.futures.ThreadPoolExecutor(width or len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


def cycle(k, name):
    with Pod(k, name) as pod:
        a = pod.start("a", "sleep", "1000")
        b = pod.start("b", "sh", "-c", "echo done")
        check_equal((b.wait(), b.log(), a.state()), (0, "done\n", "running"))


def footprint(cri):
    """What a pod that has gone could have left: on the machine, and in the one daemon that has seen them all."""
    things = leaks.Snapshot().things.values()
    count = {word: sum(t.startswith(word) for t in things) for word in ("process", "mount", "cgroup", "network", "link")}
    return {**count, "files": leaks.open_files(), "containerd fds": proc.fds(cri.child.pid),
            "containerd KiB": proc.pss_kib(cri.child.pid)}


CYCLES, LONG_CYCLES = 2, 200
CRI_FDS_TOLERATED = 8  # its connections to CNI's and our processes come and go


@test(deadline=7200, vm=True)
def one_after_another(ctx):
    with kubelet(ctx) as k:
        cycle(k, ctx.new_id())  # what is made once: parents of cgroups, CNI's files
        before, began = footprint(ctx.cri), time.monotonic()
        n = LONG_CYCLES if ctx.long else CYCLES
        for _ in range(n):
            cycle(k, ctx.new_id())
        seconds = time.monotonic() - began
        settled = {}

        def is_settled():
            settled.update(footprint(ctx.cri))
            return (all(settled[key] <= before[key] for key in ("process", "mount", "cgroup", "network", "link"))
                    and settled["containerd fds"] <= before["containerd fds"] + CRI_FDS_TOLERATED)

        try:
            proc.wait_until(is_settled, 20, "nothing of them is left")
        finally:
            print(f"     {n} pods in {seconds:.0f} s\n     before {before}\n     after  {settled}")


@test(deadline=3600, vm=True)
def many_at_once(ctx):
    """They live at once and end at once. As many start at once as an emulated CPU has time for before the
    guests' own deadlines: twice what there are of the host's."""
    with kubelet(ctx) as k:
        pods = [Pod(k, ctx.new_id()) for _ in range(20 if ctx.long else 2)]
        starting = 2 * os.cpu_count()
        before, began = footprint(ctx.cri), time.monotonic()
        try:
            in_parallel([pod.run for pod in pods], starting)
            in_parallel([lambda pod=pod: check_equal(pod.start("a", "sh", "-c", "exit 3").wait(300), 3)
                         for pod in pods], starting)
            check_equal([pod.state() for pod in pods], ["ready"] * len(pods))
            check_equal(len({a for pod in pods for a in pod.addresses()}), 2 * len(pods))
            check_equal(sum("qemu" in s.roles() for s in proc.Sandbox.find()), len(pods))
            alive = time.monotonic()
        finally:
            in_parallel([pod.end for pod in pods])
        print(f"     {len(pods)} pods lived after {alive - began:.0f} s and had ended after {time.monotonic() - began:.0f} s"
              f"\n     before {before}\n     after  {footprint(ctx.cri)}")
