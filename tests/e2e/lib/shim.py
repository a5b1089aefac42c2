"""The shim driven by hand, exactly as containerd does it: a bundle, `start`, ttRPC, `delete`."""

import json
import os
import shutil
import threading

from . import image, lab, ttrpc
from .proc import run


def run_delete(containerd, cid):
    """`delete` of an id whose bundle containerd has removed already."""
    bundle = containerd.bundle(cid)
    return run([containerd.shim_path, "-namespace", containerd.namespace, "-address", containerd.socket,
                "-publish-binary", "/usr/bin/containerd", "-id", cid, "-bundle", bundle, "delete"],
               deadline=10, cwd="/")


class HandMade:
    """One container's bundle and the shim that serves it."""

    def __init__(self, containerd, cid, bin_dir=None, cmd=("/bin/sleep", "1000"), shim=None):
        """shim: another one than containerd's, as its binary in bin_dir is called."""
        self.containerd, self.id = containerd, cid
        name = f"containerd-shim-{shim or containerd.shim}-v2"
        self.binary = os.path.join(bin_dir or containerd.bin_dir, name)
        self.dir = os.path.join(lab.work_dir(), "hand", cid)
        self.bundle = os.path.join(self.dir, containerd.namespace, cid)
        self.rootfs_dir = os.path.join(self.bundle, "rootfs")
        self.io = os.path.join(self.dir, "io")
        os.makedirs(self.rootfs_dir)
        os.makedirs(self.io)
        os.chmod(self.bundle, 0o711)
        self.spec = self._default_spec(cid, cmd)
        self.write_spec()
        self.address = None
        self.parents_fds = ()  # what `start` inherits besides 0 to 2
        self.log_lines, self._fds = [], []
        self._open_log()

    # -- the bundle

    def _default_spec(self, cid, cmd):
        spec = json.loads(run(["ctr", "oci", "spec"], check=True).text)
        spec["process"]["args"] = list(cmd)
        spec["process"]["env"] = ["PATH=/bin:/usr/bin"]
        spec["process"]["terminal"] = False
        spec["root"] = {"path": "rootfs"}
        spec["linux"]["cgroupsPath"] = f"/{self.containerd.namespace}/{cid}"
        return spec

    def sibling(self, cid, cmd, lower, **linux):
        """(bundle, rootfs) of a further container of the pod whose first this one is. linux: changes
        that part of its spec."""
        bundle, data = os.path.join(self.dir, self.containerd.namespace, cid), os.path.join(self.dir, cid)
        upper, work = os.path.join(data, "upper"), os.path.join(data, "work")
        for d in (os.path.join(bundle, "rootfs"), upper, work):
            os.makedirs(d)
        spec = self._default_spec(cid, cmd)
        spec["annotations"] = {"io.kubernetes.cri.container-type": "container",
                               "io.kubernetes.cri.sandbox-id": self.id}
        spec["linux"].update(linux)
        with open(os.path.join(bundle, "config.json"), "w") as f:
            json.dump(spec, f)
        return bundle, [("overlay", "overlay", [f"workdir={work}", f"upperdir={upper}", f"lowerdir={lower}"])]

    def write_spec(self, data=None):
        """The spec, or anything a bad writer might leave there."""
        with open(os.path.join(self.bundle, "config.json"), "wb") as f:
            f.write(json.dumps(self.spec).encode() if data is None else data)

    def _open_log(self):
        """containerd opens the FIFO `log` before it runs `start` and reads it to its end."""
        path = os.path.join(self.bundle, "log")
        os.mkfifo(path, 0o700)
        self._log_fd = os.open(path, os.O_RDWR)
        thread = threading.Thread(target=self._drain, args=(os.dup(self._log_fd),), daemon=True)
        thread.start()

    def _drain(self, fd):
        with os.fdopen(fd, errors="replace") as f:
            for line in f:
                if line == "\0end\n":
                    return
                self.log_lines.append(line.rstrip("\n"))

    def log(self):
        return "\n".join(self.log_lines)

    def overlay(self, lower=None):
        """A rootfs as containerd's overlay snapshotter would give it; its lower layer is unpacked
        for it alone, unless there is one."""
        lower = lower or image.unpack_busybox(os.path.join(self.dir, "lower"))
        self.upper = os.path.join(self.dir, "upper")
        work = os.path.join(self.dir, "work")
        for d in (self.upper, work):
            os.makedirs(d, exist_ok=True)
        return [("overlay", "overlay", [f"workdir={work}", f"upperdir={self.upper}",
                                        f"lowerdir={lower}"])]

    def fifo(self, name):
        path = os.path.join(self.io, name)
        os.mkfifo(path, 0o700)
        return path

    def output(self, name):
        """(path, reading end): a FIFO with its reader there first, as containerd has it."""
        path = self.fifo(name)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._fds.append(fd)
        return path, fd

    # -- the binary

    def _argv(self, *extra):
        return [self.binary, "-namespace", self.containerd.namespace,
                "-address", self.containerd.socket, "-publish-binary", "/usr/bin/containerd",
                "-id", self.id, *extra]

    def _env(self):
        return {"PATH": f"{os.path.dirname(self.binary)}:{os.environ['PATH']}",
                "TTRPC_ADDRESS": self.containerd.socket + ".ttrpc",
                "GRPC_ADDRESS": self.containerd.socket, "NAMESPACE": self.containerd.namespace,
                "MAX_SHIM_VERSION": "2", "GOMAXPROCS": "2"}

    def start_raw(self, deadline=20):
        return run(self._argv("start"), deadline=deadline, cwd=self.bundle, env=self._env(),
                   pass_fds=self.parents_fds)

    def start(self):
        result = self.start_raw()
        if result.code != 0:
            raise AssertionError(str(result))
        if result.err:
            raise AssertionError(f"a start that succeeds says nothing on stderr: {result}")
        self.address = result.text.strip()
        return self.address

    def task(self):
        return ttrpc.Task(self.address)

    def run(self):
        """start, Create and Start with output; returns the task client."""
        (out, self.stdout), (err, self.stderr) = self.output("stdout"), self.output("stderr")
        self.start()
        task = self.task()
        self.pid = task.create(self.id, self.bundle, self.overlay(), stdout=out, stderr=err)
        task.start(self.id)
        return task

    def run_in(self, netns):
        """The same in a network namespace that has a name."""
        for n in self.spec["linux"]["namespaces"]:
            if n["type"] == "network":
                n["path"] = netns
        self.write_spec()
        return self.run()

    def delete(self, deadline=10):
        """`delete` as containerd runs it after a disconnect."""
        return run(self._argv("-bundle", self.bundle, "delete"), deadline=deadline, cwd=self.bundle,
                   env=self._env())

    def end(self, task):
        """The normal end as containerd has it: Shutdown, the connection ends, `delete`."""
        try:
            task.shutdown(self.id)
        except ttrpc.Lost:
            pass  # a shim may end before its answer is through
        task.close()
        result = self.delete()
        if result.code != 0:
            raise AssertionError(str(result))
        return result

    @staticmethod
    def exit_status(result):
        """Of a DeleteResponse on stdout."""
        return ttrpc.first(ttrpc.decode(result.out), 2)

    def done(self):
        """Removes the bundle. Whatever the shim has left is for the leak check to find."""
        os.write(self._log_fd, b"\0end\n")
        for fd in (self._log_fd, *self._fds):
            os.close(fd)
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            try:
                self.delete()
            except Exception:
                pass
        self.done()
