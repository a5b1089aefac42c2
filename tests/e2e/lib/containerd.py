"""A containerd of our own: its own root, state and socket; ours to kill and to restart."""

import json
import os
import re
import signal
import subprocess
import threading

from . import lab, leaks
from .proc import run, wait_until, Deadline

CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
oom_score = 0
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.native",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[debug]
  level = "info"
"""


class Containerd:
    def __init__(self, shim, bin_dir, directory=None):
        """shim: "bulkhead" runs <bin_dir>/containerd-shim-bulkhead-v2."""
        self.shim = shim
        self.shim_path = os.path.join(bin_dir, f"containerd-shim-{shim}-v2")
        self.bin_dir = bin_dir
        self.dir = directory or os.path.join(lab.work_dir(), "containerd")
        self.root = os.path.join(self.dir, "root")
        self.state = os.path.join(self.dir, "state")
        self.socket = os.path.join(self.dir, "containerd.sock")
        self.log_path = os.path.join(self.dir, "log")
        self.namespace = lab.token()
        self.child = None
        os.makedirs(self.dir, exist_ok=True)
        self.config = os.path.join(self.dir, "config.toml")
        with open(self.config, "w") as f:
            f.write(CONFIG.format(root=self.root, state=self.state, socket=self.socket))

    # -- life cycle

    def start(self):
        env = dict(os.environ, PATH=f"{self.bin_dir}:{os.environ['PATH']}")
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(["containerd", "--config", self.config], env=env,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True)
        leaks.expected_pids.add(self.child.pid)
        wait_until(self._answers, 20, "containerd answers on its socket", poll=0.02)
        return self

    def _answers(self):
        if self.child.poll() is not None:
            raise AssertionError(f"containerd ended with {self.child.returncode}:\n{self.log_tail()}")
        if not os.path.exists(self.socket):
            return False
        try:
            return self.ctr("version", deadline=5).code == 0
        except Deadline:
            return False

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    # -- what it has said

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def log_size(self):
        return os.path.getsize(self.log_path)

    def log_since(self, offset):
        with open(self.log_path, "rb") as f:
            f.seek(offset)
            return f.read().decode(errors="replace")

    def log_tail(self, lines=25):
        return "\n".join(self.log().splitlines()[-lines:])

    # -- ctr

    def ctr_argv(self, *args):
        return ["ctr", "--address", self.socket, "--namespace", self.namespace, *map(str, args)]

    def ctr(self, *args, deadline=60, stdin=b"", check=False):
        return run(self.ctr_argv(*args), deadline=deadline, stdin=stdin, check=check)

    def run_argv(self, image, cid, *cmd, options=()):
        return self.ctr_argv("run", "--runtime", f"io.containerd.{self.shim}.v2", *options,
                             image, cid, *cmd)

    def run(self, image, cid, *cmd, options=(), deadline=90, stdin=b""):
        """`ctr run`, without --rm unless asked: what is left is the test's to see."""
        return run(self.run_argv(image, cid, *cmd, options=options), deadline=deadline, stdin=stdin)

    def run_rm(self, image, cid, *cmd, options=(), deadline=90, stdin=b""):
        return self.run(image, cid, *cmd, options=("--rm", *options), deadline=deadline, stdin=stdin)

    def run_detached(self, image, cid, *cmd, options=(), deadline=90):
        """Starts it and returns the task's pid."""
        result = self.run(image, cid, *cmd, options=("-d", *options), deadline=deadline)
        if result.code != 0:
            raise AssertionError(str(result))
        return self.task_pid(cid)

    def exec_argv(self, cid, eid, *cmd, options=()):
        return self.ctr_argv("task", "exec", "--exec-id", eid, *options, cid, *cmd)

    def exec(self, cid, eid, *cmd, options=(), deadline=60, stdin=b""):
        return run(self.exec_argv(cid, eid, *cmd, options=options), deadline=deadline, stdin=stdin)

    def popen(self, image, cid, *cmd, options=()):
        return subprocess.Popen(self.run_argv(image, cid, *cmd, options=options),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, start_new_session=True)

    def tasks(self):
        """{id: (pid, status)} as `ctr task ls` tells."""
        out = {}
        for line in self.ctr("task", "ls", check=True).text.splitlines()[1:]:
            name, pid, status = line.split()[:3]
            out[name] = (int(pid), status)
        return out

    def task_pid(self, cid):
        return self.tasks()[cid][0]

    def task_status(self, cid):
        return self.tasks().get(cid, (0, "GONE"))[1]

    def task_kill(self, cid, sig="SIGKILL", deadline=30):
        return self.ctr("task", "kill", "-s", sig, cid, deadline=deadline)

    def wait_stopped(self, cid, seconds=30):
        wait_until(lambda: self.task_status(cid) in ("STOPPED", "GONE"), seconds,
                   f"task {cid} has stopped", poll=0.05)

    def task_rm(self, cid, *options):
        return self.ctr("task", "rm", *options, cid, deadline=30)

    def task_rm_status(self, cid):
        """Removes the stopped task and returns its exit status, which ctr says in a warning."""
        result = self.task_rm(cid)
        if result.code != 0:
            raise AssertionError(str(result))
        found = re.search(r"non-zero exit code (\d+)", result.errtext)
        return int(found.group(1)) if found else 0

    def remove(self, cid):
        """Task and container, whatever state they are in. Says nothing."""
        if self.task_status(cid) not in ("STOPPED", "GONE"):
            self.task_kill(cid)
            self.wait_stopped(cid)
        self.task_rm(cid)
        self.ctr("container", "rm", cid)

    def start_again(self, cid, deadline=90):
        """Starts a container that exists, on the snapshot it has, and waits for its end."""
        return self.ctr("task", "start", cid, deadline=deadline)

    def containers(self):
        return self.ctr("container", "ls", "-q", check=True).text.split()

    def bundle(self, cid):
        return os.path.join(self.state, "io.containerd.runtime.v2.task", self.namespace, cid)

    def upper_dir(self, key):
        """The host's directory of what a container has written (overlayfs snapshotter)."""
        text = self.ctr("snapshot", "mounts", "/nowhere", key, check=True).text
        return re.search(r"upperdir=([^,\s]+)", text).group(1)

    def import_image(self, tar):
        self.ctr("image", "import", tar, deadline=120, check=True)


class Events:
    """`ctr events` in the background: [(topic, event)] of one namespace, in order."""

    def __init__(self, containerd):
        self.child = subprocess.Popen(containerd.ctr_argv("events"), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()
        # ctr does not say when it has subscribed: a container record announces itself.
        self._until_subscribed(containerd)

    def _read(self):
        for line in self.child.stdout:
            m = re.match(rb"\S+ \S+ \S+ \S+ \S+ (/\S+) (\{.*\})", line)
            if m:
                self.seen.append((m.group(1).decode(), json.loads(m.group(2))))

    def _until_subscribed(self, containerd):
        def announced():
            containerd.ctr("namespaces", "label", containerd.namespace, "seen=yes")
            return self.seen
        wait_until(announced, 10, "the event stream is there", poll=0.1)

    def of(self, cid):
        """[(topic, event)] of one task."""
        return [(t, e) for t, e in self.seen if e.get("container_id") == cid and t.startswith("/tasks/")]

    def statuses(self, cid):
        """Exit statuses that have been told of a container's first process."""
        return [e.get("exit_status", 0) for t, e in self.of(cid)
                if t == "/tasks/exit" and e.get("id") == cid]

    def of_exec(self, cid, eid):
        """[(topic, event)] of one exec."""
        return [(t, e) for t, e in self.of(cid) if eid in (e.get("exec_id"), e.get("id"))]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
