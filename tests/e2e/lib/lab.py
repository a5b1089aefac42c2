"""The lab: private PID, mount, network and IPC namespaces with a private /run.

Every daemon a test starts, kills or restarts lives in here, so nothing on the machine is
disturbed, and nothing that is left over outlives the run: when PID 1 of the lab ends, the
kernel kills the rest. In here /proc shows exactly what we have started, which is what makes
a leak check exact.

The mount tree is private towards the machine but shared inside, as systemd has it: a mount
that a shim makes in a careless copy of the tree comes back to us and is counted.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile

ENV_DIR = "BULKHEAD_LAB"
OVERLAYFS_MAGIC = 0x794C7630


def inside():
    return ENV_DIR in os.environ


def work_dir():
    """A directory of this run, on a real file system; gone when the lab has ended."""
    return os.environ[ENV_DIR]


def _fs_magic(path):
    out = subprocess.run(["stat", "-f", "-c", "%t", path], capture_output=True, text=True)
    return int(out.stdout.strip() or "0", 16)


def _mount(*args):
    subprocess.run(["mount", *args], check=True)


def _prepare(directory):
    """Runs as PID 1 of the lab."""
    _mount("--make-rprivate", "/")
    _mount("--make-rshared", "/")
    _mount("-t", "proc", "proc", "/proc")
    _mount("-t", "tmpfs", "-o", "mode=0755", "run", "/run")
    if _fs_magic(directory) == OVERLAYFS_MAGIC:
        # An overlay cannot be the upper layer of another.
        _mount("-t", "tmpfs", "-o", "mode=0711", "lab", directory)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _reap_until(pid):
    """PID 1's job: take every orphan, promptly, and end with the child's status."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _as_init(argv):
    _prepare(os.environ[ENV_DIR])
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, *argv])
    # ^C reaches the child from the terminal; it has the clearing up to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    code = _reap_until(pid)
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)


def _lost_cgroups(token):
    """Directories of our cgroups, deepest first. They outlive the lab's processes."""
    for mount in cgroup_mounts():
        for path, _, _ in os.walk(mount, topdown=False):
            if token in path[len(mount):]:
                yield path


def cgroup_mounts():
    with open("/proc/self/mounts") as f:
        return [l.split()[1] for l in f if l.split()[2] in ("cgroup", "cgroup2")]


def enter():
    """Runs this program again inside a new lab and exits with its status.

    Returns at once when we are in one already.
    """
    if inside():
        if os.getpid() == 1:
            _as_init(sys.argv)
        return
    if os.geteuid() != 0:
        sys.exit(f"{os.path.basename(sys.argv[0])}: namespaces, mounts and cgroups need root; run it as root")

    directory = tempfile.mkdtemp(prefix="bulkhead-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    os.chmod(directory, 0o711)
    os.environ[ENV_DIR] = directory
    child = None
    try:
        child = subprocess.Popen(["unshare", "--fork", "--kill-child", "--pid", "--mount", "--net",
                                  "--ipc", "--propagation", "unchanged",
                                  sys.executable, *sys.argv])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        code = child.wait()
    finally:
        if child and child.poll() is None:
            child.kill()
            child.wait()
        for path in _lost_cgroups(token(directory)):
            try:
                os.rmdir(path)
            except OSError:
                pass
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(code if code >= 0 else 128 - code)


def token(directory=None):
    """A word that is in the name of every cgroup and containerd namespace of this run."""
    return "lab-" + os.path.basename(directory or work_dir())[len("bulkhead-"):].replace("_", "x")
