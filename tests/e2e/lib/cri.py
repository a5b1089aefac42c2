"""Kubernetes' side of containerd: its CRI plugin, driven as the kubelet does."""

import contextlib
import importlib
import json
import os
import subprocess
import sys

from . import containerd, image, lab, proc
from .runner import Skip, check_equal

PAUSE = "docker.io/library/pause:test"
SUBNETS = ("10.123.0.0/16", "fd00:123::/64")
PLUGINS = "/usr/lib/cni"

# What no other test wants, and how it is set up.
CONFIG = containerd.CONFIG.replace('  "io.containerd.grpc.v1.cri",\n', "") + """\
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkhead]
    runtime_type = "io.containerd.bulkhead.v2"
    pod_annotations = ["io.bulkhead.*"]
    privileged_without_host_devices = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkhead-all-devices]
    runtime_type = "io.containerd.bulkhead.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""

# Method: what it is asked with, what it answers.
METHODS = {
    "RunPodSandbox": ("RunPodSandboxRequest", "PodSandboxId"),
    "StopPodSandbox": ("PodSandboxId", "Empty"),
    "RemovePodSandbox": ("PodSandboxId", "Empty"),
    "PodSandboxStatus": ("PodSandboxId", "PodSandboxStatusResponse"),
    "ListPodSandbox": ("Empty", "ListPodSandboxResponse"),
    "CreateContainer": ("CreateContainerRequest", "ContainerId"),
    "StartContainer": ("ContainerId", "Empty"),
    "StopContainer": ("StopContainerRequest", "Empty"),
    "RemoveContainer": ("ContainerId", "Empty"),
    "ListContainers": ("Empty", "ListContainersResponse"),
    "ContainerStatus": ("ContainerId", "ContainerStatusResponse"),
    "UpdateContainerResources": ("UpdateContainerResourcesRequest", "Empty"),
    "ReopenContainerLog": ("ContainerId", "Empty"),
    "ExecSync": ("ExecSyncRequest", "ExecSyncResponse"),
    "Exec": ("ExecRequest", "UrlResponse"),
    "Attach": ("AttachRequest", "UrlResponse"),
    "PortForward": ("PortForwardRequest", "UrlResponse"),
    "ContainerStats": ("ContainerId", "ContainerStatsResponse"),
    "PodSandboxStats": ("PodSandboxId", "PodSandboxStatsResponse"),
}


def _messages():
    """cri.proto's classes, compiled into the lab's directory."""
    out = os.path.join(lab.work_dir(), "cri")
    if not os.path.isdir(out):
        os.mkdir(out)
        here = os.path.dirname(os.path.abspath(__file__))
        subprocess.run(["protoc", f"-I{here}", f"--python_out={out}", "cri.proto"], check=True)
        sys.path.insert(0, out)
    return importlib.import_module("cri_pb2")


class CriContainerd(containerd.Containerd):
    """One with the CRI plugin, a network configuration and a pause image."""

    def __init__(self, ctx, bin_dir=None):
        super().__init__(ctx.shim, bin_dir or ctx.bin_dir, os.path.join(lab.work_dir(), "cri-containerd"))
        self.namespace = "k8s.io"
        cni = os.path.join(self.dir, "cni")
        os.makedirs(cni, exist_ok=True)
        with open(os.path.join(cni, "10-pods.conflist"), "w") as f:
            json.dump({"cniVersion": "0.4.0", "name": "pods", "plugins": [
                {"type": "ptp", "ipam": {
                    "type": "host-local", "dataDir": os.path.join(self.dir, "ipam"),
                    "ranges": [[{"subnet": s}] for s in SUBNETS],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}, f)
        with open(self.config, "w") as f:
            f.write(CONFIG.format(root=self.root, state=self.state, socket=self.socket, pause=PAUSE,
                                  plugins=PLUGINS, cni=cni))

    def start(self):
        super().start()
        tar = os.path.join(lab.work_dir(), "pause.tar")
        image.write_image(tar, PAUSE, [image.busybox_layer()], cmd=("/bin/sleep", "2147483647"))
        self.import_image(tar)
        image.write_busybox(tar)
        self.import_image(tar)
        os.unlink(tar)
        return self

    def config_json(self, cid):
        with open(os.path.join(self.state, "io.containerd.runtime.v2.task/k8s.io", cid, "config.json")) as f:
            return f.read()


@contextlib.contextmanager
def kubelet(ctx, bin_dir=None):
    """A containerd with its CRI plugin, ctx.cri, and what asks it. bin_dir: another shim's."""
    ctx.cri = CriContainerd(ctx, bin_dir).start()
    k = Kubelet(ctx.cri)
    try:
        yield k
    finally:
        k.close()
        ctx.cri.stop()


class Kubelet:
    """CRI calls to a containerd."""

    def __init__(self, of):
        try:
            import grpc
        except ImportError:
            raise Skip("no grpc for Python (packages python3-grpcio, python3-protobuf)") from None
        self.grpc, self.pb = grpc, _messages()
        self.channel = grpc.insecure_channel(f"unix:{of.socket}")

    def close(self):
        self.channel.close()

    def call(self, method, deadline=60, **fields):
        asked, answered = (getattr(self.pb, name) for name in METHODS[method])
        stub = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}",
                                        asked.SerializeToString, answered.FromString)
        return stub(asked(**fields), timeout=deadline * proc.patience)

    def refused(self, method, **fields):
        """The sentence that a call is refused with."""
        try:
            answer = self.call(method, **fields)
        except self.grpc.RpcError as e:
            return e.details()
        raise AssertionError(f"{method} was not refused: {answer}")


class Pod:
    """A pod sandbox and its containers: all of it is taken away again."""

    def __init__(self, kubelet, name, handler="bulkhead", linux=None, **config):
        self.k, self.name, self.handler = kubelet, name, handler
        self.logs = os.path.join(lab.work_dir(), f"logs-{name}")
        os.makedirs(self.logs, exist_ok=True)
        self.config = {"metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default", "attempt": 0},
                       "hostname": name, "log_directory": self.logs, "linux": linux or {}, **config}
        self.id = None

    def run(self):
        self.id = self.k.call("RunPodSandbox", config=self.config, runtime_handler=self.handler).pod_sandbox_id
        return self

    def status(self):
        return self.k.call("PodSandboxStatus", pod_sandbox_id=self.id).status

    def state(self):
        return self.k.pb.PodSandboxStatus.State.Name(self.status().state).removeprefix("SANDBOX_").lower()

    def addresses(self):
        network = self.status().network
        return [network.ip, *(a.ip for a in network.additional_ips)]

    def create(self, name, *command, linux=None, attempt=0, image=image.BUSYBOX, **config):
        log = f"{name}.{attempt}.log"
        cid = self.k.call("CreateContainer", pod_sandbox_id=self.id, sandbox_config=self.config, config={
            "metadata": {"name": name, "attempt": attempt}, "image": {"image": image},
            "command": command, "log_path": log, "linux": linux or {}, **config}).container_id
        return Container(self, name, cid, os.path.join(self.logs, log))

    def start(self, name, *command, **config):
        return self.create(name, *command, **config).start()

    def refused(self, name, command, **config):
        """The sentence with which a container is not created, or not started."""
        try:
            container = self.create(name, *command, **config)
        except self.k.grpc.RpcError as e:
            return e.details()
        said = self.k.refused("StartContainer", container_id=container.id)
        container.remove()
        return said

    def stop(self):
        self.k.call("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self):
        self.k.call("RemovePodSandbox", pod_sandbox_id=self.id)

    def end(self):
        if self.id:
            self.stop()
            self.remove()

    def __enter__(self):
        return self.run()

    def __exit__(self, *_):
        self.end()


class Container:
    def __init__(self, pod, name, cid, log):
        self.pod, self.k, self.name, self.id, self.log_path = pod, pod.k, name, cid, log

    def start(self):
        self.k.call("StartContainer", container_id=self.id)
        return self

    def stop(self, grace=10):
        self.k.call("StopContainer", container_id=self.id, timeout=grace)

    def remove(self):
        self.k.call("RemoveContainer", container_id=self.id)

    def status(self):
        return self.k.call("ContainerStatus", container_id=self.id).status

    def state(self):
        return self.k.pb.ContainerStatus.State.Name(self.status().state).removeprefix("CONTAINER_").lower()

    def wait(self, seconds=60):
        """Its exit code."""
        proc.wait_until(lambda: self.state() == "exited", seconds, f"{self.name} ends")
        return self.status().exit_code

    def log(self, stream="stdout"):
        """What it has said, without the kubelet's time stamps."""
        out = ""
        with contextlib.suppress(FileNotFoundError), open(self.log_path) as f:
            for line in f:
                _, name, tag, text = line.rstrip("\n").split(" ", 3)
                if name == stream:
                    out += text + ("\n" if tag == "F" else "")
        return out

    def exec(self, *cmd, timeout=0):
        return self.k.call("ExecSync", container_id=self.id, cmd=cmd, timeout=timeout)

    def sh(self, script):
        """What a shell in it prints; it must succeed."""
        r = self.exec("sh", "-c", script)
        check_equal((r.exit_code, r.stderr), (0, b""), script)
        return r.stdout.decode()
