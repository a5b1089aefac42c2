"""What is there, on the whole machine as the lab sees it, before and after.

A test that ends takes a second picture and waits, for a bounded time, until it equals the
first. What then is left over is named one by one.
"""

import os
import re
import subprocess
import time

from . import lab, proc

SOCKETS = "/run/containerd/s"
RUN_DIR = "/run/bulkhead"


# Processes the harness itself may start in the middle of a test: containerd after its restart.
expected_pids = set()


def _processes():
    """(pid, start time) of everything alive but the harness."""
    own, out = {os.getpid()} | expected_pids, {}
    for pid in proc.pids():
        fields = proc.stat_fields(pid)
        if not fields or fields[0] in "ZX" or pid in own:
            continue
        out[(pid, int(fields[19]))] = f"process {proc.describe(pid)} {' '.join(proc.cmdline(pid))[:120]}"
    return out


def _unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), text)


def _mounts():
    """Every mount of every mount namespace that a process is in."""
    seen, out = set(), {}
    for pid in proc.pids():
        ns = proc.namespace(pid, "mnt")
        if not ns or ns in seen:
            continue
        try:
            with open(f"/proc/{pid}/mountinfo") as f:
                lines = f.read().splitlines()
        except OSError:
            continue
        seen.add(ns)
        for line in lines:
            left, right = line.split(" - ", 1)
            fields, (fstype, source) = left.split(), right.split()[:2]
            where = _unescape(fields[4])
            key = (ns, fields[0])
            out[key] = f"mount {source} ({fstype}) on {where} in {ns}, of process {proc.describe(pid)}"
    return out


def _ip(pid, *args):
    """Lines of a command in the network namespace of a process."""
    out = subprocess.run(["nsenter", "-t", str(pid), "-n", *args], capture_output=True, text=True)
    return out.stdout.splitlines() if out.returncode == 0 else []


def _networks():
    """Network namespaces by process, by bound file, and in each the links and qdiscs."""
    out, seen = {}, set()
    for pid in proc.pids():
        ns = proc.namespace(pid, "net")
        if not ns or ns in seen or not proc.alive(pid):
            continue
        seen.add(ns)
        out[ns] = f"network namespace {ns} of process {proc.describe(pid)}"
        for line in _ip(pid, "ip", "-o", "link"):
            name = line.split(": ")[1].split("@")[0]
            out[(ns, "link", name)] = f"link {name} in {ns}"
        for line in _ip(pid, "tc", "qdisc", "show"):
            if "noqueue" not in line:
                line = re.sub(r" refcnt \d+", "", line).strip()
                out[(ns, "qdisc", line)] = f"{line} in {ns}"
    with open("/proc/self/mountinfo") as f:
        for line in f:
            if " - nsfs " in line:
                where = _unescape(line.split()[4])
                out[("bound", where)] = f"namespace {line.split()[3]} bound on {where}"
    return out


def _cgroups():
    """Directories of this run in every hierarchy, and any that says it is ours."""
    out = {}
    for mount in lab.cgroup_mounts():
        for path, dirs, _ in os.walk(mount):
            rel = path[len(mount):]
            if lab.token() in rel or "/bulkhead" in rel:
                # The parent that carries our namespace's name stays: it is shared by all containers.
                if rel.rstrip("/") not in (f"/{lab.token()}", "/bulkhead"):
                    out[path] = f"cgroup {path}"
    return out


def _files():
    out = {}
    if os.path.isdir(SOCKETS):
        for name in os.listdir(SOCKETS):
            out[("socket", name)] = f"socket {SOCKETS}/{name}"
    with open("/proc/net/unix") as f:
        for line in f:
            if " @" in line:
                name = line.split(" @", 1)[1].strip()
                out[("abstract", name)] = f"abstract socket @{name}"
    for path, dirs, names in os.walk(RUN_DIR):
        for name in dirs + names:
            full = os.path.join(path, name)
            if full != f"{RUN_DIR}/uids":
                out[("run", full)] = full
    return out


def _bundles():
    out = {}
    for path, dirs, _ in os.walk(os.path.join(lab.work_dir(), "containerd", "state")):
        if os.path.basename(os.path.dirname(path)) == "io.containerd.runtime.v2.task":
            for name in dirs:
                out[("bundle", name)] = f"bundle {path}/{name}"
            dirs.clear()
    return out


class Snapshot:
    def __init__(self):
        self.things = {}
        for part in (_processes, _mounts, _networks, _cgroups, _files, _bundles):
            self.things.update(part())

    def new_since(self, before):
        """What is here and was not before, in words."""
        return sorted(text for key, text in self.things.items() if key not in before.things)


def assert_none(before, settle=5.0):
    """Waits until nothing is there that was not before. Fails with the list of what is left.

    containerd itself ends some of its work after it has answered (its goroutines remove
    bundles and unmount, the kernel takes network namespaces down by a worker), so a first
    look may be too early; what is still there after `settle` seconds has leaked.
    """
    end = time.monotonic() + settle * proc.patience
    while True:
        left = Snapshot().new_since(before)
        if not left:
            return
        if time.monotonic() > end:
            raise AssertionError("left behind:\n    " + "\n    ".join(left))
        time.sleep(0.05)


def open_files():
    """How many files the kernel has open, on the whole machine."""
    with open("/proc/sys/fs/file-nr") as f:
        return int(f.read().split()[0])


def kernel_kib():
    """What the kernel itself has allocated and can only get back from who gives it: slabs, page tables, stacks, per-CPU
    memory."""
    with open("/proc/meminfo") as f:
        fields = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in f)}
    return sum(fields[name] for name in ("SUnreclaim", "PageTables", "KernelStack", "Percpu"))


def held(sandbox):
    """{role: (fds, KiB of its own)} of the processes that are ours."""
    return {role: (proc.fds(pid), proc.private_kib(pid)) for role, pid in sandbox.roles().items()
            if role not in ("qemu", "virtiofsd")}


def assert_held(sandbox, before, kib=64, settle=2.0):
    """Waits until every process holds the fds it held before, and at most so much more memory."""
    end = time.monotonic() + settle
    while True:
        now = held(sandbox)
        more = [f"{role}: {before[role][0]} fds, {before[role][1]} KiB before; now {fds}, {size} KiB"
                for role, (fds, size) in now.items()
                if fds != before[role][0] or size > before[role][1] + kib]
        if not more:
            return
        if time.monotonic() > end:
            raise AssertionError("held in the end:\n    " + "\n    ".join(more))
        time.sleep(0.05)
