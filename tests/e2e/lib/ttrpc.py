"""A ttRPC client and just as much protobuf as containerd's task service needs."""

import json
import socket
import struct

from . import proc

MAX_FRAME = 4 << 20
PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
TASK = "containerd.task.v2.Task"


class RpcError(Exception):
    """The server answered with a status. Codes are gRPC's."""

    CODES = {1: "Canceled", 2: "Unknown", 3: "InvalidArgument", 4: "DeadlineExceeded",
             5: "NotFound", 6: "AlreadyExists", 7: "PermissionDenied", 8: "ResourceExhausted",
             9: "FailedPrecondition", 10: "Aborted", 11: "OutOfRange", 12: "Unimplemented",
             13: "Internal", 14: "Unavailable"}

    def __init__(self, code, message):
        super().__init__(f"{self.CODES.get(code, code)}: {message}")
        self.code, self.name, self.message = code, self.CODES.get(code, str(code)), message


class Lost(Exception):
    """The connection ended before the answer."""


# -- protobuf: a message is a list of (field number, value)

def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode(*fields):
    """int and bool become varints, str and bytes length-delimited; None and "" are left out."""
    out = b""
    for number, value in fields:
        if value is None or value == "" or value is False:
            continue
        if isinstance(value, str):
            value = value.encode()
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(int(value))
    return out


def _read_varint(data, at):
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def decode(data):
    """{field number: [values]}"""
    out, at = {}, 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _read_varint(data, at)
        elif kind == 2:
            size, at = _read_varint(data, at)
            value, at = data[at:at + size], at + size
        elif kind == 1:
            value, at = data[at:at + 8], at + 8
        elif kind == 5:
            value, at = data[at:at + 4], at + 4
        else:
            raise ValueError(f"wire type {kind}")
        out.setdefault(number, []).append(value)
    return out


def first(message, number, default=0):
    return message.get(number, [default])[0]


def text(message, number):
    return first(message, number, b"").decode()


# -- ttRPC

class Client:
    def __init__(self, address, deadline=10):
        path = address[len("unix://"):] if address.startswith("unix://") else address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(deadline * proc.patience)
        self.sock.connect(path)
        self.stream = 1

    def close(self):
        self.sock.close()

    def _receive(self, size):
        out = b""
        while len(out) < size:
            part = self.sock.recv(size - len(out))
            if not part:
                raise Lost("the shim closed the connection")
            out += part
        return out

    def send(self, service, method, payload, timeout_s=0):
        """Sends a request and returns its stream number."""
        body = encode((1, service), (2, method), (3, payload), (4, int(timeout_s * 1e9)))
        stream, self.stream = self.stream, self.stream + 2
        self.sock.sendall(struct.pack(">IIBB", len(body), stream, 1, 0) + body)
        return stream

    def receive(self):
        """(stream, payload); raises RpcError when the answer is a status."""
        size, stream, kind, _ = struct.unpack(">IIBB", self._receive(10))
        if size > MAX_FRAME:
            raise Lost(f"frame of {size} bytes")
        message = decode(self._receive(size))
        if kind != 2:
            raise Lost(f"frame of type {kind}")
        status = decode(first(message, 1, b""))
        if first(status, 1):
            raise RpcError(first(status, 1), text(status, 2))
        return stream, first(message, 2, b"")

    def call(self, method, payload=b"", service=TASK, deadline=60):
        self.sock.settimeout(deadline * proc.patience)
        stream = self.send(service, method, payload, deadline * proc.patience)
        try:
            answered, reply = self.receive()
        except (ConnectionError, BrokenPipeError) as e:
            raise Lost(str(e)) from None
        if answered != stream:
            raise Lost(f"answer on stream {answered}, not {stream}")
        return decode(reply)


class Task(Client):
    """containerd.task.v2.Task"""

    def create(self, cid, bundle, rootfs=(), stdin="", stdout="", stderr="", terminal=False,
               deadline=60):
        """rootfs: [(type, source, [options])]"""
        mounts = [(3, encode((1, t), (2, s), *[(4, o) for o in options]))
                  for t, s, options in rootfs]
        reply = self.call("Create", encode((1, cid), (2, bundle), *mounts, (4, terminal),
                                           (5, stdin), (6, stdout), (7, stderr)), deadline=deadline)
        return first(reply, 1)

    def start(self, cid, exec_id="", deadline=60):
        return first(self.call("Start", encode((1, cid), (2, exec_id)), deadline=deadline), 1)

    def state(self, cid, exec_id="", deadline=10):
        m = self.call("State", encode((1, cid), (2, exec_id)), deadline=deadline)
        return {"id": text(m, 1), "bundle": text(m, 2), "pid": first(m, 3), "status": first(m, 4),
                "stdout": text(m, 6), "exit_status": first(m, 9)}

    def connect(self, cid):
        m = self.call("Connect", encode((1, cid)))
        return {"shim_pid": first(m, 1), "task_pid": first(m, 2), "version": text(m, 3)}

    def pids(self, cid):
        return [first(decode(p), 1) for p in self.call("Pids", encode((1, cid))).get(1, [])]

    def processes(self, cid):
        """[(pid, text of its details)]"""
        out = []
        for info in map(decode, self.call("Pids", encode((1, cid))).get(1, [])):
            details = decode(first(decode(first(info, 2, b"")), 2, b""))
            out.append((first(info, 1), text(details, 1)))
        return out

    def kill(self, cid, signal=9, exec_id="", every=False, deadline=10):
        self.call("Kill", encode((1, cid), (2, exec_id), (3, signal), (4, every)), deadline=deadline)

    def close_io(self, cid, exec_id="", stdin=True):
        self.call("CloseIO", encode((1, cid), (2, exec_id), (3, stdin)))

    def exec(self, cid, exec_id, process, stdin="", stdout="", stderr="", terminal=False, deadline=30):
        """process: an OCI process, as a dict or as the bytes of one"""
        data = process if isinstance(process, bytes) else json.dumps(process).encode()
        spec = encode((1, PROCESS_TYPE), (2, data))
        self.call("Exec", encode((1, cid), (2, exec_id), (3, terminal), (4, stdin), (5, stdout),
                                 (6, stderr), (7, spec)), deadline=deadline)

    def resize(self, cid, width, height, exec_id=""):
        self.call("ResizePty", encode((1, cid), (2, exec_id), (3, width), (4, height)))

    def pause(self, cid, deadline=20):
        self.call("Pause", encode((1, cid)), deadline=deadline)

    def resume(self, cid, deadline=20):
        self.call("Resume", encode((1, cid)), deadline=deadline)

    def update(self, cid, resources, deadline=30):
        """resources: OCI resources as a dict"""
        any_ = encode((1, RESOURCES_TYPE), (2, json.dumps(resources).encode()))
        self.call("Update", encode((1, cid), (2, any_)), deadline=deadline)

    def stats(self, cid, deadline=20):
        """(type, {field: [values]}) of the metrics"""
        any_ = decode(first(self.call("Stats", encode((1, cid)), deadline=deadline), 1))
        return text(any_, 1), decode(first(any_, 2, b""))

    def checkpoint(self, cid):
        self.call("Checkpoint", encode((1, cid), (2, "/proc/nowhere")))

    def wait(self, cid, exec_id="", deadline=60):
        return first(self.call("Wait", encode((1, cid), (2, exec_id)), deadline=deadline), 1)

    def delete(self, cid, exec_id="", deadline=10):
        m = self.call("Delete", encode((1, cid), (2, exec_id)), deadline=deadline)
        return {"pid": first(m, 1), "exit_status": first(m, 2)}

    def shutdown(self, cid, now=False):
        self.call("Shutdown", encode((1, cid), (2, now)))


STATUS = {0: "unknown", 1: "created", 2: "running", 3: "stopped", 4: "paused", 5: "pausing"}
