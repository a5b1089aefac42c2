"""seccomp-profiles/README.md against /proc: what each process is meant to hold, and what it holds."""

import ctypes
import os
import re
import socket
import stat

from . import look, proc

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../seccomp-profiles/README.md")
SETS = ("CapInh", "CapBnd", "CapAmb")
KINDS = {"vhost-net": "/dev/vhost-net", "rust": "/usr/libexec/virtiofsd"}
QEMU_ROOT = ["/usr", "/etc/ld.so.cache", "/kernel", "/initrd"]


def tables(accel="tcg", path=PAGE, also=()):
    """{process: {column: text}} of all tables whose first column is `process`.

    The cells of a row `NAME (KIND, ...)` take the place of NAME's where every KIND is true of this
    machine or in `also`: of the sandbox's settings. Of two such rows the later one wins.
    """
    kinds = [accel, *also] + [kind for kind, path in KINDS.items() if os.path.exists(path)]
    rows, header = {}, None
    for line in open(path):
        cells = [c.strip() for c in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if not cells:
            header = None
        elif cells[0] == "process":
            header = cells
        elif header and not set(cells[0]) <= {"-"}:
            rows.setdefault(cells[0], {}).update(zip(header[1:], cells[1:]))
    for name in [n for n in rows if n.endswith(")")]:
        process, kind = name[:-1].split(" (")
        special = rows.pop(name)
        if set(kind.split(", ")) <= set(kinds):
            rows[process].update(special)
    return rows


# -- fds by kind

SOCKET_TYPES = {"0001": "stream", "0002": "dgram", "0005": "seqpacket"}


def sockets(pids):
    """{inode: kind} of every socket in the network namespaces of these processes."""
    kinds = {}
    for pid in list(pids) + ["self"]:
        for line in (proc._read(pid, "net/unix") or "").splitlines()[1:]:
            f = line.split()
            listening = int(f[3], 16) & 0x10000
            kinds[f[6]] = "listener" if listening else SOCKET_TYPES.get(f[4], f[4])
        for line in (proc._read(pid, "net/netlink") or "").splitlines()[1:]:
            kinds[line.split()[-1]] = "netlink"
    return kinds


SYS_PIDFD_GETFD = 438
libc = ctypes.CDLL(None, use_errno=True)


def _socket(pid, fd):
    """A socket of another process, as one of ours."""
    pidfd = os.pidfd_open(pid)
    try:
        got = libc.syscall(SYS_PIDFD_GETFD, pidfd, int(fd), 0)
    finally:
        os.close(pidfd)
    if got < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return socket.socket(fileno=got)


def vsock_peer(pid, fd):
    """(CID, port) that a vsock socket is connected to; None: to nobody, or it is none."""
    if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:["):
        return None
    with _socket(pid, fd) as s:
        try:
            return s.getpeername() if s.family == socket.AF_VSOCK else None
        except OSError:
            return None


def _other_socket(pid, fd):
    """No /proc file lists these."""
    with _socket(pid, fd) as s:
        return "vsock" if s.family == socket.AF_VSOCK else "socket of another namespace"


def fd_kind(pid, fd, known):
    path = f"/proc/{pid}/fd/{fd}"
    link = os.readlink(path)
    if link.startswith("socket:["):
        return known.get(link[8:-1]) or _other_socket(pid, fd)
    if link.startswith("anon_inode:"):
        # A virtual CPU's has its number in it.
        return {"[eventpoll]": "epoll"}.get(link[11:], link[11:].strip("[]").split(":")[0])
    if link.startswith("/memfd:"):
        return "memfd"
    if link.startswith("pipe:["):
        return "pipe"
    flags = int(re.search(r"^flags:\s*(\d+)", proc._read(pid, f"fdinfo/{fd}"), re.M).group(1), 8)
    mode, device = os.stat(path).st_mode, os.stat(path).st_rdev
    if stat.S_ISCHR(mode) and device == os.makedev(1, 3):
        return "null"
    if stat.S_ISCHR(mode) and device == os.makedev(10, 232):
        return "kvm"
    if stat.S_ISCHR(mode) and device == os.makedev(10, 200):
        return "tun"
    if stat.S_ISCHR(mode) and device == os.makedev(10, 238):
        return "vhost-net"
    if stat.S_ISCHR(mode) and device == os.makedev(10, 241):
        return "vhost-vsock"
    if stat.S_ISFIFO(mode):
        return "fifo"
    if stat.S_ISDIR(mode):
        return "directory"
    if flags & os.O_PATH:
        return "path"
    return "regular" if stat.S_ISREG(mode) else link


def fds(pid, known):
    counts = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            kind = fd_kind(pid, fd, known)
        except FileNotFoundError:
            continue  # closed meanwhile
        counts[kind] = counts.get(kind, 0) + 1
    return counts


# -- one column each: what /proc says, in the words of the page

def mounts(pid):
    """[(mount point, writable)]"""
    out = []
    for line in (proc._read(pid, "mountinfo") or "").splitlines():
        f = line.split()
        # A read-only mount, or a file system that is read-only itself.
        out.append((f[4], "rw" in f[5].split(",") and "rw" in f[-1].split(",")))
    return out


def uid_text(pid, base):
    ids = {int(n) for name in ("Uid", "Gid") for n in proc.status_field(pid, name).split()}
    if ids == {0}:
        return "0"
    return f"+{ids.pop() - base}" if len(ids) == 1 else str(sorted(ids))


def capability_text(pid):
    if proc.status_field(pid, "CapPrm") != proc.status_field(pid, "CapEff"):
        return "permitted and effective differ"
    extra = [s for s in SETS if int(proc.status_field(pid, s), 16)]
    return " ".join(look.capabilities(pid) + extra) or "none"


def threads_agree(pid, field):
    """The value of a status field, when all threads have the same."""
    values = {proc.status_field(f"{pid}/task/{t}", field) for t in os.listdir(f"/proc/{pid}/task")}
    return values.pop() if len(values) == 1 else f"threads differ: {sorted(values)}"


def root_text(pid):
    points = [point for point, _ in mounts(pid)]
    if points == ["/"]:
        return "empty" if not os.listdir(f"/proc/{pid}/root/") else "one mount with something in it"
    inner = sorted(p for p in points if p != "/")
    if all(re.match(r"/c\d+/rootfs$", p) for p in inner):
        return "the share"
    for qemu in (QEMU_ROOT, QEMU_ROOT + ["/dev"]):
        if inner == sorted(qemu):
            return ", ".join(qemu)
    if os.path.samestat(os.stat(f"/proc/{pid}/root/"), os.stat("/")):
        return "host"
    return ", ".join(inner)


class Sandbox:
    """The processes of a running sandbox, and which namespace goes by which name."""

    def __init__(self, sandbox):
        self.pids = dict(sandbox.roles())
        # Two virtiofsd: the first waits for the second, which is in one PID namespace more.
        every = [p for p in proc.pids() if proc.role(p) == "virtiofsd" and proc.alive(p)]
        children = {p: int(proc.stat_fields(p)[1]) for p in every}
        for p in every:
            if children[p] in every and self._mine(children[p], sandbox):
                self.pids["virtiofsd"], self.pids["virtiofsd-wait"] = p, children[p]
        self.base = int(proc.status_field(sandbox.supervisor, "Uid").split()[0]) - 7
        self.known = sockets(self.pids.values())
        self.names = self._names(sandbox.supervisor)

    @staticmethod
    def _mine(pid, sandbox):
        return proc.namespace(pid, "pid") == sandbox.pidns

    def _names(self, supervisor):
        names = {}
        for kind in ("mnt", "ipc", "uts", "user", "net", "pid"):
            names[proc.namespace("self", kind)] = "host"
        for kind in ("mnt", "ipc", "uts"):
            names[proc.namespace(supervisor, kind)] = "void"
        names[proc.namespace(supervisor, "net")] = "pod"
        names[proc.namespace(supervisor, "pid")] = "sandbox"
        if "frontend" in self.pids:
            names[proc.namespace(self.pids["frontend"], "net")] = "void"
        if "virtiofsd" in self.pids:
            for kind in ("mnt", "net", "user"):
                names.setdefault(proc.namespace(self.pids["virtiofsd"], kind), "virtiofsd")
        return names

    def observe(self, pid):
        """One row of the page, as it is."""
        row = {
            "uid": uid_text(pid, self.base),
            "groups": proc.status_field(pid, "Groups") or "none",
            "capabilities": capability_text(pid),
            "no_new_privs": {"1": "yes", "0": "no"}.get(threads_agree(pid, "NoNewPrivs"), "mixed"),
            "seccomp": {"0": "off", "2": "filter"}.get(threads_agree(pid, "Seccomp"), "mixed"),
            "root": root_text(pid),
            "writable mounts": str(sum(writable for _, writable in mounts(pid))),
            "fds": fds(pid, self.known),
        }
        for kind in ("mnt", "net", "pid", "ipc", "uts", "user"):
            ns = proc.namespace(pid, kind)
            row[kind] = self.names.get(ns) or self._own(ns, kind)
        return row

    def _own(self, ns, kind):
        users = [r for r, p in self.pids.items() if proc.namespace(p, kind) == ns]
        return "own" if len(users) == 1 else f"shared by {sorted(users)}"


def parse_fds(text):
    return {k: n for k, n in (item.strip().rsplit(" ", 1) for item in text.split(","))}


def compare_fds(want, got):
    want, bad = parse_fds(want), []
    for kind in sorted(set(want) | set(got)):
        expected, have = want.get(kind, "0"), got.get(kind, 0)
        if expected != "any" and int(expected) != have:
            bad.append(f"fds: {have} of kind {kind}, not {expected}")
    return bad


def compare(want, got):
    """Sentences, one for each column that differs."""
    bad = []
    for column, meant in want.items():
        if column == "fds":
            bad += compare_fds(meant, got["fds"])
        elif column == "writable mounts" and meant == "the host's":
            continue
        elif column == "capabilities":
            if sorted(meant.split()) != sorted(got[column].split()):
                bad.append(f"capabilities: {got[column]}, not {meant}")
        elif got[column] != meant:
            bad.append(f"{column}: {got[column]}, not {meant}")
    return bad
