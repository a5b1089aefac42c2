"""A guest under QEMU (TCG) with virtiofsd, and a client of the agent's protocol.

Only the Python standard library is used. Messages of the protocol are encoded by hand: msg(1, "a")
is a message whose field 1 is "a"; see ipc/agent/*.proto for the numbers.
"""

import os
import select
import shutil
import socket
import struct
import subprocess
import threading
import time

QEMU = "/usr/bin/qemu-system-x86_64"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
SHARE = "/run/kata-containers/shared/containers"
SHM = "/run/kata-containers/sandbox/shm"
AGENT = "grpc.AgentService"
HEALTH = "grpc.Health"
OURS = "bulkhead.AgentService"


# -- protobuf


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """One field; a list is a repeated field, None is absent."""
    if value is None:
        return b""
    if isinstance(value, (list, tuple)):
        return b"".join(field(number, v) for v in value)
    if isinstance(value, int):  # and bool
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def msg(*pairs):
    """msg(number, value, number, value, ...)"""
    return b"".join(field(n, v) for n, v in zip(pairs[::2], pairs[1::2]))


def decode(data):
    """{number: [values]} with bytes for length-delimited fields."""
    out, at = {}, 0

    def read():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n

    while at < len(data):
        tag = read()
        if tag & 7 == 0:
            value = read()
        elif tag & 7 == 2:
            length = read()
            value = data[at:at + length]
            at += length
        else:
            raise ValueError("wire type %d" % (tag & 7))
        out.setdefault(tag >> 3, []).append(value)
    return out


def request(service, method, payload):
    return msg(1, service, 2, method, 3, payload or None)


def frame(stream, kind, data, flags=0):
    return struct.pack(">IIBB", len(data), stream, kind, flags) + data


# -- messages


def process(args, terminal=False, env=(), cwd="/", uid=0, caps=()):
    capabilities = msg(1, list(caps), 2, list(caps), 4, list(caps))
    return msg(1, terminal, 3, msg(1, uid, 2, uid), 4, list(args),
               5, ["PATH=/bin:/usr/bin", *env], 6, cwd, 7, capabilities)


DEFAULT_MOUNTS = [
    msg(1, "/proc", 2, "proc", 3, "proc"),
    msg(1, "/dev", 2, "tmpfs", 3, "tmpfs", 4, ["nosuid", "mode=755", "size=65536k"]),
    msg(1, "/dev/pts", 2, "devpts", 3, "devpts",
        4, ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    msg(1, "/dev/shm", 2, SHM, 3, "bind", 4, ["rbind"]),
    msg(1, "/sys", 2, "sysfs", 3, "sysfs", 4, ["nosuid", "noexec", "nodev", "ro"]),
    msg(1, "/sys/fs/cgroup", 2, "cgroup", 3, "cgroup",
        4, ["nosuid", "noexec", "nodev", "relatime", "ro"]),
]


def spec(root, proc, mounts=(), resources=None, readonly=False, sysctl=None, devices=()):
    sysctls = [msg(1, k, 2, v) for k, v in (sysctl or {}).items()]
    linux = msg(3, sysctls, 4, resources, 5, "/kubepods/pod1/c",
                6, [msg(1, t) for t in ("ipc", "uts", "mount")], 7, list(devices))
    return msg(1, "1.1.0", 2, proc, 3, msg(1, root, 2, readonly), 4, "ignored",
               5, DEFAULT_MOUNTS + list(mounts), 7, [msg(1, "k", 2, "v")], 8, linux)


class RpcError(Exception):
    def __init__(self, code, text):
        super().__init__("%d: %s" % (code, text))
        self.code, self.text = code, text


class Lost(Exception):
    """The guest is gone."""


# -- the virtual machine


class Call:
    def __init__(self):
        self.event, self.response = threading.Event(), None


class Vm:
    def __init__(self, image, workdir, memory=256, smp=1, cmdline_extra="", disks=()):
        """disks: (path, serial number, read-only)"""
        self.disks = disks
        self.image, self.dir, self.memory, self.smp = image, workdir, memory, smp
        self.share = os.path.join(workdir, "share")
        self.cmdline = open(os.path.join(image, "cmdline")).read().strip() + " tsc=unstable" + cmdline_extra
        self.console = b""
        self.calls, self.next_stream, self.lock = {}, 1, threading.Lock()
        self.hold = threading.Lock()  # while it is held no answer is taken
        self.qemu = self.virtiofsd = None
        self.hello_s = None

    def start(self):
        os.makedirs(self.share, exist_ok=True)
        self._start_virtiofsd()
        agent, agent_far = socket.socketpair()
        con, con_far = socket.socketpair()
        fds = (agent_far.fileno(), con_far.fileno(), self.vfs.fileno())
        self.t0 = time.monotonic()
        self.qemu = subprocess.Popen(self.argv(*fds), pass_fds=fds, stdin=subprocess.DEVNULL)
        for s in (agent_far, con_far, self.vfs):
            s.close()
        self.sock, self.con = agent, con
        self.console_reader = threading.Thread(target=self._read_console, daemon=True)
        self.console_reader.start()
        return self

    def argv(self, agent, console, share):
        mem = "%dM" % self.memory
        return [QEMU, "-M", "q35,accel=tcg,sata=off,smbus=off,vmport=off", "-cpu", "max",
                "-m", mem, "-smp", str(self.smp), "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot",
                "-chardev", "socket,id=con,fd=%d" % console,
                "-device", "virtio-serial-pci,id=vs0", "-device", "virtconsole,chardev=con",
                "-chardev", "socket,id=agent,fd=%d" % agent,
                "-device", "virtserialport,chardev=agent,name=agent.channel.0",
                "-object", "memory-backend-memfd,id=mem,size=%s,share=on" % mem,
                "-machine", "memory-backend=mem",
                "-chardev", "socket,id=vfs,fd=%d" % share,
                "-device", "vhost-user-fs-pci,chardev=vfs,tag=kataShared,queue-size=1024",
                "-object", "rng-builtin,id=r", "-device", "virtio-rng-pci,rng=r",
                *self._disk_arguments(),
                "-kernel", os.path.join(self.image, "kernel"),
                "-initrd", os.path.join(self.image, "initrd"), "-append", self.cmdline]

    def _disk_arguments(self):
        for n, (path, serial, read_only) in enumerate(self.disks):
            ro = "on" if read_only else "off"
            yield from ("-blockdev", f"driver=file,node-name=f{n},filename={path},read-only={ro}",
                        "-blockdev", f"driver=raw,node-name=r{n},file=f{n},read-only={ro}",
                        "-device", f"virtio-blk-pci,drive=r{n},serial={serial}")

    def _start_virtiofsd(self):
        path = os.path.join(self.dir, "vfs.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        self.vfs = socket.socket(socket.AF_UNIX)
        self.vfs.connect(path)
        os.unlink(path)
        self.virtiofsd = subprocess.Popen(
            [VIRTIOFSD, "--fd=%d" % listener.fileno(), "-f", "-o", "source=" + self.share,
             "-o", "sandbox=namespace", "-o", "xattr"],
            pass_fds=(listener.fileno(),), stdin=subprocess.DEVNULL,
            stderr=open(os.path.join(self.dir, "virtiofsd.log"), "wb"))
        listener.close()

    def _read_console(self):
        while True:
            try:
                data = self.con.recv(4096)
            except OSError:
                return
            if not data:
                return
            self.console += data

    def hello(self, timeout=60):
        """Wait for the agent's first message; then start to take answers."""
        ready, _, _ = select.select([self.sock], [], [], timeout)
        assert ready, "no hello within %d s" % timeout
        header = self._exact(10)
        length, stream, kind, flags = struct.unpack(">IIBB", header)
        text = self._exact(length)
        self.hello_s = time.monotonic() - self.t0
        assert (stream, kind, flags, text) == (0, 0x48, 0, b"bulkhead-agent/1"), (header, text)
        threading.Thread(target=self._read_answers, daemon=True).start()
        return self

    def _exact(self, n):
        data = b""
        while len(data) < n:
            try:
                part = self.sock.recv(n - len(data))
            except OSError:
                part = b""
            if not part:
                raise Lost()
            data += part
        return data

    def _read_answers(self):
        try:
            while True:
                with self.hold:
                    pass
                length, stream, kind, flags = struct.unpack(">IIBB", self._exact(10))
                data = self._exact(length)
                assert (kind, flags) == (2, 0), (kind, flags)
                with self.lock:
                    call = self.calls.pop(stream, None)
                if call:
                    call.response = data
                    call.event.set()
        except Lost:
            with self.lock:
                calls, self.calls = self.calls, None
            for call in calls.values():
                call.event.set()

    def expect(self, stream):
        """Register for the answer of a stream whose frame is sent by other means."""
        call = Call()
        with self.lock:
            if self.calls is None:
                raise Lost()
            self.calls[stream] = call
        return call

    def send(self, method, payload=b"", service=AGENT):
        with self.lock:
            stream = self.next_stream
            self.next_stream += 2
        call = self.expect(stream)
        data = frame(stream, 1, request(service, method, payload))
        with self.lock:
            self.sock.sendall(data)
        return call

    def result(self, call, timeout=60):
        if not call.event.wait(timeout):
            raise TimeoutError("no answer within %d s" % timeout)
        if call.response is None:
            raise Lost()
        response = decode(call.response)
        if 1 in response:
            status = decode(response[1][0])
            raise RpcError(status.get(1, [0])[0], status.get(2, [b""])[0].decode())
        return decode(response.get(2, [b""])[0])

    def call(self, method, payload=b"", service=AGENT, timeout=60):
        return self.result(self.send(method, payload, service), timeout)

    def wait_end(self, timeout=20):
        self.qemu.wait(timeout)
        self.console_reader.join(timeout)

    def stop(self):
        for p in (self.qemu, self.virtiofsd):
            if p and p.poll() is None:
                p.kill()
            if p:
                p.wait()
        self.sock.close()
        self.con.close()

    # -- the verbs, in the form most tests want

    def create_sandbox(self, hostname="pod1", dns=("nameserver 192.0.2.1",), storages=None):
        if storages is None:
            storages = [
                msg(1, "virtio-fs", 3, "kataShared", 4, "virtiofs", 5, ["nodev"], 6, SHARE),
                msg(1, "ephemeral", 3, "shm", 4, "tmpfs",
                    5, ["noexec", "nosuid", "nodev", "mode=1777", "size=8388608"], 6, SHM),
            ]
        self.call("CreateSandbox", msg(1, hostname, 2, list(dns), 3, storages, 5, "sandbox1"))

    def create(self, cid, args, root="rootfs", terminal=False, storages=(), pidns=False, uid=0,
               caps=(), env=(), cwd="/", disks=(), **kw):
        """disks: (id, path in the container) of Device messages."""
        proc = process(args, terminal, env, cwd, uid, caps)
        self.call("CreateContainer", msg(
            1, cid, 4, [msg(1, i, 2, "blk", 4, path) for i, path in disks], 5, list(storages), 6, spec("%s/%s" % (SHARE, root), proc, **kw), 7, pidns))

    def start_container(self, cid):
        self.call("StartContainer", msg(1, cid))

    def exec(self, cid, exec_id, args, terminal=False, **kw):
        self.call("ExecProcess", msg(1, cid, 2, exec_id, 4, process(args, terminal, **kw)))

    def signal(self, cid, number, exec_id=""):
        self.call("SignalProcess", msg(1, cid, 2, exec_id, 3, number))

    def processes(self, cid, timeout=60):
        """([(pid, exec id or None, command)], how many more)"""
        answer = self.call("ListProcesses", msg(1, cid), OURS, timeout)
        return [(p[1][0], p.get(3, [b""])[0].decode() if 2 in p else None, p[4][0])
                for p in map(decode, answer.get(1, []))], answer.get(2, [0])[0]

    def wait(self, cid, exec_id="", timeout=60):
        return self.call("WaitProcess", msg(1, cid, 2, exec_id), timeout=timeout).get(1, [0])[0]

    def read(self, cid, exec_id="", stream="Stdout", length=65536, timeout=60):
        response = self.call("Read" + stream, msg(1, cid, 2, exec_id, 3, length), timeout=timeout)
        return response.get(1, [b""])[0]

    def read_all(self, cid, exec_id="", stream="Stdout"):
        data = bytearray()
        while True:
            part = self.read(cid, exec_id, stream)
            if not part:
                return bytes(data)
            data += part

    def write(self, cid, data, exec_id=""):
        response = self.call("WriteStdin", msg(1, cid, 2, exec_id, 3, data or None))
        return response.get(1, [0])[0]

    def remove(self, cid, timeout=10):
        self.call("RemoveContainer", msg(1, cid, 2, timeout))

    def run(self, cid, args, **kw):
        """Create, start, close stdin, collect; returns (status, stdout, stderr). Not removed."""
        self.create(cid, args, **kw)
        self.start_container(cid)
        return self.collect(cid)

    def collect(self, cid, exec_id=""):
        self.call("CloseStdin", msg(1, cid, 2, exec_id))
        err = []
        reader = threading.Thread(
            target=lambda: err.append(self.read_all(cid, exec_id, "Stderr")), daemon=True)
        reader.start()
        out = self.read_all(cid, exec_id)
        reader.join(60)
        return self.wait(cid, exec_id), out, err[0] if err else None


def make_rootfs(path):
    """A root file system of busybox (static), in a directory."""
    for d in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        os.makedirs(os.path.join(path, d), exist_ok=True)
    shutil.copy("/bin/busybox", os.path.join(path, "bin/busybox"))
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout
    for name in applets.split():
        target = os.path.join(path, "bin", name)
        if not os.path.lexists(target):
            os.symlink("busybox", target)
