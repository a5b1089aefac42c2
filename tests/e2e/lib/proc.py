"""Commands with deadlines, and what /proc says of processes."""

import os
import signal
import subprocess
import time

CLK_TCK = os.sysconf("SC_CLK_TCK")


# On a machine that is emulated every deadline is so many times longer; see `run --patience`.
patience = 1


class Result:
    def __init__(self, argv, code, out, err, seconds):
        self.argv, self.code, self.out, self.err, self.seconds = argv, code, out, err, seconds

    @property
    def text(self):
        return self.out.decode(errors="replace")

    @property
    def errtext(self):
        return self.err.decode(errors="replace")

    def __str__(self):
        return (f"{' '.join(map(str, self.argv))}: exit {self.code} after {self.seconds:.1f} s\n"
                f"  stdout: {self.text[-1500:]!r}\n  stderr: {self.errtext[-1500:]!r}")


class Deadline(Exception):
    """A command did not end in its time. It has been killed."""


def run(argv, deadline=60, env=None, cwd=None, stdin=b"", check=False, pass_fds=()):
    """Runs a command to its end. Never waits longer than the deadline."""
    began = time.monotonic()
    child = subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, start_new_session=True, pass_fds=pass_fds)
    try:
        out, err = child.communicate(stdin, timeout=deadline * patience)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        result = Result(argv, None, out, err, time.monotonic() - began)
        raise Deadline(f"deadline of {deadline * patience} s passed: {result}") from None
    result = Result(argv, child.returncode, out, err, time.monotonic() - began)
    if check and result.code != 0:
        raise AssertionError(str(result))
    return result


def wait_until(condition, seconds, what, poll=0.01):
    """Polls until condition() is true and returns its value."""
    seconds *= patience
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(poll)


def pids():
    return [int(d) for d in os.listdir("/proc") if d.isdigit()]


def _read(pid, name, mode="r"):
    try:
        with open(f"/proc/{pid}/{name}", mode) as f:
            return f.read()
    except OSError:
        return None


def _link(pid, name):
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return None


def stat_fields(pid):
    """Fields of /proc/PID/stat after the name: [0] is the state, [1] the parent."""
    text = _read(pid, "stat")
    return text[text.rindex(")") + 2:].split() if text else None


def state(pid):
    f = stat_fields(pid)
    return f[0] if f else None


def alive(pid):
    """A zombie is gone: it holds nothing but its number."""
    return state(pid) not in (None, "Z", "X")


def start_time(pid):
    f = stat_fields(pid)
    return int(f[19]) if f else None


def status_field(pid, name):
    for line in (_read(pid, "status") or "").splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return None


def comm(pid):
    return (_read(pid, "comm") or "").strip()


def exe(pid):
    path = _link(pid, "exe") or ""
    return path[:-len(" (deleted)")] if path.endswith(" (deleted)") else path


def cmdline(pid):
    return (_read(pid, "cmdline") or "").split("\0")[:-1]


def namespace(pid, kind):
    return _link(pid, f"ns/{kind}")


def pss_kib(pid):
    for line in (_read(pid, "smaps_rollup") or "").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return None


def private_kib(pid):
    """Memory that is this process's alone and was written: what grows when it leaks."""
    for line in (_read(pid, "smaps_rollup") or "").splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    return None


def threads(pid):
    """Numbers that the functions here take like a process's: what they tell is the thread's."""
    try:
        return [f"{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def cpu_ns(pid):
    """CPU time of all its threads that live."""
    return sum(int((_read(t, "schedstat") or "0").split()[0]) for t in threads(pid))


def wake_ups(pid):
    """How often its threads have gone to sleep, which is how often they were woken."""
    return sum(int(status_field(t, "voluntary_ctxt_switches") or 0) for t in threads(pid))


def fds(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None


def cgroups(pid):
    """{hierarchy: path}; hierarchy is "" for v2."""
    out = {}
    for line in (_read(pid, "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        out[controllers] = path
    return out


def describe(pid):
    return f"{pid} {comm(pid) or '?'} ({exe(pid) or 'kernel or gone'}) state {state(pid)}"


class Sandbox:
    """The processes of one sandbox, found from outside: by its PID namespace."""

    def __init__(self, task_pid):
        self.supervisor = task_pid
        self.pidns = namespace(task_pid, "pid")
        if self.pidns is None or self.pidns == namespace("self", "pid"):
            raise AssertionError(f"task pid {describe(task_pid)} has no PID namespace of its own")

    @classmethod
    def find(cls):
        """Every sandbox there is, by supervisor (PID 1 of a namespace that is not ours)."""
        own, found = namespace("self", "pid"), {}
        for pid in pids():
            ns = namespace(pid, "pid")
            if ns and ns != own and alive(pid):
                found[ns] = min(pid, found.get(ns, pid))
        return [cls(pid) for pid in sorted(found.values())]

    def pids(self):
        return [p for p in pids() if namespace(p, "pid") == self.pidns and alive(p)]

    def roles(self):
        """{role: pid}; of two that run the same program the older one. For a moment the supervisor has a
        child that holds the void, and the Rust virtiofsd one that writes its id maps."""
        return {role(p): p for p in sorted(self.pids(), reverse=True)}

    def gone(self):
        return not self.pids()


def role(pid):
    """What a process of a sandbox is, from its binary; the supervisor runs the shim's own."""
    name = os.path.basename(exe(pid))
    if name.startswith("bulkhead-"):
        return name[len("bulkhead-"):]
    if name.startswith("qemu-system"):
        return "qemu"
    if name == "virtiofsd":
        return "virtiofsd"
    if name.startswith("containerd-shim-"):
        return "supervisor"
    return comm(pid) or name
