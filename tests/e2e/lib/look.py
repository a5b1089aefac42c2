"""What the processes of a sandbox are allowed and what they cost, as /proc says it."""

import datetime
import re

from . import proc

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")

CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE
SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()

SECCOMP = {"0": "off", "1": "strict", "2": "filter"}


def capabilities(pid):
    """Names of the permitted ones."""
    mask = int(proc.status_field(pid, "CapPrm") or "0", 16)
    return [name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]


def own_namespaces(pid):
    """Those that are not the caller's."""
    return [n for n in NAMESPACES if proc.namespace(pid, n) not in (None, proc.namespace("self", n))]


def memory_kib(pid):
    """(PSS without the guest's memory, PSS of the guest's memory)"""
    rest = guest = 0
    in_guest = False
    try:
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    in_guest = "/memfd:" in line
                elif line.startswith("Pss:"):
                    kib = int(line.split()[1])
                    guest, rest = (guest + kib, rest) if in_guest else (guest, rest + kib)
    except OSError:
        return None
    return rest, guest


class Process:
    """One line of the table. Fields are None when the process went away meanwhile."""

    def __init__(self, pid):
        self.pid, self.role = pid, proc.role(pid)
        self.uid = (proc.status_field(pid, "Uid") or "?").split()[0]
        self.capabilities = capabilities(pid)
        self.seccomp = SECCOMP.get(proc.status_field(pid, "Seccomp"), "?")
        self.namespaces = own_namespaces(pid)
        self.memory = memory_kib(pid)

    @staticmethod
    def header():
        return ("ROLE", "PID", "UID", "PSS KiB", "GUEST KiB", "SECCOMP", "NAMESPACES OF ITS OWN",
                "CAPABILITIES")

    def row(self):
        caps = self.capabilities
        text = "none" if not caps else "all" if len(caps) > 35 else ",".join(caps)
        if caps and "user" in self.namespaces:
            text += " (in its own user namespace)"
        rest, guest = self.memory or ("?", "?")
        return (self.role, self.pid, self.uid, rest, guest or "-", self.seccomp,
                " ".join(self.namespaces), text)


def table(rows):
    """Columns as wide as they must be; the first row is the header."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows)


LOG_LINE = re.compile(r'time="([^"]+)" level=\w+ msg="((?:[^"\\]|\\.)*)" role=(\S+) id=(\S+)')


def _seconds(stamp):
    """Of an RFC 3339 time with nanoseconds, which Python's datetime does not take."""
    whole, fraction = stamp.rstrip("Z").split(".")
    then = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return then.timestamp() + float("0." + fraction)


def timelines(log):
    """{sandbox id: [(ms since its `start` was run, role, what)]} from the shim's own log lines.

    The supervisor says how long it took to the lock; that line's own time is the anchor.
    """
    lines, zero = {}, {}
    for line in log.splitlines():
        m = LOG_LINE.search(line)
        if not m:
            continue
        at, text, role, cid = _seconds(m.group(1)), m.group(2), m.group(3), m.group(4)
        lock = re.match(r"phase=lock t_us=(\d+)", text)
        if lock:
            zero[cid], text = at - int(lock.group(1)) / 1e6, "lock: every box is shut"
        lines.setdefault(cid, []).append((at, role, text.replace(f" {cid}:", "")))
    return {cid: [((at - zero[cid]) * 1000, role, text) for at, role, text in found]
            for cid, found in lines.items() if cid in zero}


def moment(timeline, pattern):
    """When a line that matches was logged, or None."""
    return next((ms for ms, _, text in timeline if re.search(pattern, text)), None)
