"""What every test gets: a running containerd, images in it, and names to use."""

import os

from . import image, jobs, lab, proc, stage
from .containerd import Containerd

FIFO_DIR = "/run/containerd/fifo"
RECOVERY_PATIENCE = 2


class Context:
    def __init__(self, stage_dir, foo=False, long=False, accel="tcg", warm=True, trace=None):
        """trace: (tracer, directory): every shim runs under tests/faults/tracer, which notes there
        what of the system call policies is used."""
        self.trace = trace
        self.stage_dir, self.long, self.accel, self.warm = stage_dir, long, accel, warm
        self.is_vm = not foo
        self.shim = "foo" if foo else "bulkhead"
        self._counter = 0
        prefix = os.path.join(lab.work_dir(), "prefix")
        self.bin_dir = stage.make_foo(prefix) if foo else self.prefix(prefix)
        self.containerd = Containerd(self.shim, self.bin_dir)

    # -- settings of the shim

    def settings(self):
        """What the tests change from the defaults, and why."""
        work = lab.work_dir()
        return {
            "accel": self.accel,
            "hello_timeout_ms": min(60000 * proc.patience, 600000),
            "uid_base": 2000000000 + jobs.number() * 1000000,  # limits count by uid, on the whole machine
            "rootfs_prefix": [work],
            "stdio_prefix": [FIFO_DIR, "/run/containerd", work],
            "log_prefix": [work],
        }

    def prefix(self, path, **changes):
        """A prefix of its own with changed settings; returns its bin directory."""
        bin_dir = stage.make(self.stage_dir, path, **{**self.settings(), **changes})
        if self.trace:
            stage.add_tracer(path, self.trace[0], report=self.trace[1])
        return bin_dir

    def other_prefix(self, **changes):
        return self.prefix(os.path.join(lab.work_dir(), f"prefix-{self.new_id()}"), **changes)

    # -- life

    def __enter__(self):
        # The runc shim makes its log's directory only; ours and ctr expect these.
        os.makedirs(FIFO_DIR, mode=0o711, exist_ok=True)
        self.containerd.start()
        self._images = {}
        self.image("busybox")
        if self.warm:
            self._warm_up()
        return self

    def __exit__(self, *_):
        self.containerd.stop()

    def _warm_up(self):
        """One container, so that what is made once (directories, parents of cgroups) is there."""
        self.containerd.run_rm(image.BUSYBOX, self.new_id(), "true")

    def image(self, kind):
        """The name of a test image, imported at its first use."""
        name, write = {"busybox": (image.BUSYBOX, image.write_busybox),
                       "layers": (image.LAYERS, image.write_layers),
                       "owners": (image.OWNERS, image.write_owners)}[kind]
        if kind not in self._images:
            tar = os.path.join(lab.work_dir(), f"{kind}.tar")
            write(tar)
            self.containerd.import_image(tar)
            os.unlink(tar)
            self._images[kind] = name
        return name

    def new_id(self):
        self._counter += 1
        return f"t{self._counter}"

    # -- after a failure

    def begin(self):
        self._log_offset = self.containerd.log_size()

    def explain_failure(self):
        lines = self.containerd.log_since(self._log_offset).splitlines()[-15:]
        print("     containerd's log:" + "".join(f"\n       {l[:400]}" for l in lines), flush=True)

    def recover(self):
        """A failed test may have left anything: containers that are there are removed.

        A task whose shim is gone may hold ctr for as long as it is let: not six times that.
        """
        patience, proc.patience = proc.patience, min(proc.patience, RECOVERY_PATIENCE)
        try:
            if self.containerd.child.poll() is not None:
                self.containerd.start()
            for cid in self.containerd.containers():
                self.containerd.remove(cid)
        except Exception as e:
            print(f"     could not clear up: {e}", flush=True)
        finally:
            proc.patience = patience
