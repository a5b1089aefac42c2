"""What no process of a sandbox may ask of the kernel, tried in every one of them as it runs.

The tables below are written by hand: they say what is meant, not what the policies allow. The
process itself makes the call (lib/inject.py), in its own place, with its own filters.
"""

import contextlib
import errno
import os
import signal
import struct
import threading
import time

from lib import inject, proc, ttrpc
from lib.inject import Died, Victim
from lib.proc import Sandbox
from lib.runner import check, check_contains, check_equal, each, test
from lib.shim import HandMade

ROLES = ("supervisor", "frontend", "agentd", "vmmd", "persistd", "netd", "mountd")
VM = ("qemu", "virtiofsd")
AT_FDCWD = 0xffffff9c
AF_UNIX, AF_INET, AF_NETLINK, STREAM, DGRAM, RAW = 1, 2, 16, 1, 2, 3
SELF = object()  # the victim's own pid, as it sees it
UNIX_ADDRESS = struct.pack("H14s", AF_UNIX, b"/run/x\0")
CLOSE_ON_EXEC = 0o2000000
O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW = 1, 0o100, 0o200, 0o400000

# name: (number, arguments...). Numbers of x86-64.
CALLS = {
    # another program, another process
    "execve": (59, b"/bin/sh\0", 0, 0),
    "execveat": (322, AT_FDCWD, b"/bin/sh\0", 0, 0, 0),
    "fork": (57,),
    "vfork": (58,),
    "clone process": (56, signal.SIGCHLD),
    "clone namespaces": (56, 0x1011 | 0x10000000),
    "clone3": (435, struct.pack("<11Q", *[0] * 4, signal.SIGCHLD, *[0] * 6), 88),
    "ptrace": (101, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "process_vm_writev": (311, 1, 0, 0, 0, 0, 0),
    "pidfd_open": (434, 1, 0),
    "pidfd_getfd": (438, 3, 0, 0),
    "pidfd_send_signal": (424, 3, signal.SIGTERM, 0, 0),
    "kill another": (62, 1, signal.SIGKILL),
    "kill all": (62, -1, signal.SIGTERM),
    "tkill": (200, 1, signal.SIGABRT),
    "tgkill KILL": (234, SELF, SELF, signal.SIGKILL),
    "rt_sigqueueinfo": (129, 1, signal.SIGTERM, 0),
    "waitid of a process": (247, 1, 1, 0, 4, 0),
    # sockets
    "socket inet": (41, AF_INET, STREAM, 0),
    "socket unix": (41, AF_UNIX, STREAM | CLOSE_ON_EXEC, 0),
    "socket unix dgram": (41, AF_UNIX, DGRAM, 0),
    "socket netlink": (41, AF_NETLINK, RAW, 15),
    "socket packet": (41, 17, RAW, 0),
    "socketpair": (53, AF_UNIX, DGRAM, 0, 0),
    "connect": (42, 3, UNIX_ADDRESS, len(UNIX_ADDRESS)),
    "bind": (49, 3, UNIX_ADDRESS, len(UNIX_ADDRESS)),
    "listen": (50, 3, 1),
    "accept": (43, 3, 0, 0),
    "accept4 another": (288, 5, 0, 0, 0),
    "setsockopt": (54, 3, 1, 16, b"\1\0\0\0", 4),
    "getsockopt TCP": (55, 3, 6, 1, 0, 0),
    "sendto": (44, 3, b"x", 1, 0x4040, 0, 0),
    # paths
    "open": (2, b"/etc/passwd\0", 0),
    "openat": (257, AT_FDCWD, b"/etc/passwd\0", 0),
    "openat to write": (257, AT_FDCWD, b"/x\0", O_WRONLY | O_CREAT, 0o600),
    "openat of fd 5": (257, 5, b".\0", 0),
    "openat of fd 5 to overwrite": (257, 5, b"exits\0", O_WRONLY | O_CREAT | O_NOFOLLOW | CLOSE_ON_EXEC, 0o600),
    "openat of fd 5 with another mode": (257, 5, b"x\0", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW
                                         | CLOSE_ON_EXEC, 0o4755),
    "openat2": (437, AT_FDCWD, b"/etc/passwd\0", struct.pack("<3Q", 0, 0, 0), 24),
    "creat": (85, b"/x\0", 0o600),
    "open_by_handle_at": (304, 3, 0, 0),
    "mknod": (133, b"/x\0", 0o20600, 0x103),
    "mkdir": (83, b"/x\0", 0o700),
    "unlink": (87, b"/x\0"),
    "unlinkat": (263, AT_FDCWD, b"/x\0", 0),
    "rename": (82, b"/x\0", b"/y\0"),
    "renameat": (264, 5, b"exits\0", 4, b"y\0"),
    "link": (86, b"/x\0", b"/y\0"),
    "symlink": (88, b"/x\0", b"/y\0"),
    "chmod": (90, b"/x\0", 0o777),
    "chown": (92, b"/x\0", 0, 0),
    "chdir": (80, b"/\0"),
    "stat": (4, b"/etc/passwd\0", 0),
    "access": (21, b"/etc/passwd\0", 0),
    # mounts and namespaces
    "mount": (165, b"none\0", b"/\0", b"tmpfs\0", 0, 0),
    "umount2": (166, b"/\0", 2),
    "fsopen": (430, b"tmpfs\0", 0),
    "open_tree": (428, AT_FDCWD, b"/\0", 1),
    "move_mount": (429, AT_FDCWD, b"\0", AT_FDCWD, b"/\0", 4),
    "setns": (308, 3, 0),
    "unshare": (272, 0x10000000),
    "pivot_root": (155, b".\0", b".\0"),
    "chroot": (161, b"/\0"),
    # memory
    "mmap": (9, 0, 4096, 3, 0x22, -1, 0),
    "mmap exec": (9, 0, 4096, 7, 0x22, -1, 0),
    "mprotect exec": (10, 0, 4096, 5),
    "memfd_create": (319, b"x\0", 0),
    "memfd_secret": (447, 0),
    "userfaultfd": (323, 0),
    "shmget": (29, 0, 4096, 0o1600),
    "process_madvise": (440, 3, 0, 0, 0, 0),
    # who it is
    "setuid": (105, 0),
    "setresuid": (117, 0, 0, 0),
    "setresgid": (119, 0, 0, 0),
    "setgroups": (116, 0, 0),
    "capset": (126, struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", *[0] * 6)),
    "prctl dumpable": (157, 4, 1, 0, 0, 0),
    "prctl name": (157, 15, b"x\0", 0, 0, 0),
    "seccomp": (317, 0, 0, 0),
    "personality": (135, 0x0040000),
    "prlimit64 to set": (302, 0, 7, struct.pack("<2Q", 9, 9), 0),
    "keyctl": (250, 0, 0, 0),
    "add_key": (248, b"user\0", b"x\0", b"x", 1, -4),
    "request_key": (249, b"user\0", b"x\0", 0, 0),
    # fds
    "ioctl TIOCSTI": (16, 0, 0x5412, b"x"),
    "ioctl unknown": (16, 0, 0xdeadbeef, 0),
    "ioctl TUNSETIFF": (16, 0, 0x400454ca, 0),
    "fcntl DUPFD": (72, 3, 0, 10),
    "fcntl SETOWN": (72, 3, 8, 1),
    "dup2": (33, 0, 9),
    "writev elsewhere": (20, 3, 0, 0),
    "splice": (275, 3, 0, 3, 0, 1, 0),
    "sendfile": (40, 3, 3, 0, 1),
    "inotify_init1": (294, 0),
    "fanotify_init": (300, 0, 0),
    # the machine
    "bpf": (321, 0, 0, 0),
    "io_uring_setup": (425, 1, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, b"\0"),
    "finit_module": (313, 3, b"\0", 0),
    "delete_module": (176, b"x\0", 0),
    "reboot": (169, 0, 0, 0, 0),
    "syslog": (103, 10, 0, 0),
    "sethostname": (170, b"x", 1),
    "clock_settime": (227, 0, 0),
    "iopl": (172, 3),
    "modify_ldt": (154, 0, 0, 0),
    # other ways in
    "x32 getpid": (39 | inject.X32,),
    "x32 read": (0 | inject.X32, 3, 0, 0),
    "i386 getpid": (20, inject.INT_80),
    "i386 open": (5, b"/etc/passwd\0", 0, inject.INT_80),
    "no such call": (1023,),
}

# What happens: KILL where a call is not named here. An errno: that answer. "may": it is what this
# process is for, and not tried.
LIBC_ASKS = {"open": "EACCES", "openat": "EACCES", "openat to write": "EACCES", "stat": "EACCES",
             "access": "EACCES", "mmap": "ENOMEM"}
MAY = "may"
ANSWERS = {
    "supervisor": LIBC_ASKS,
    "frontend": LIBC_ASKS,
    "agentd": LIBC_ASKS,
    "vmmd": LIBC_ASKS,
    "persistd": LIBC_ASKS,
    # Its policy lets it make queues of taps; what it is tried on is none.
    "netd": {**LIBC_ASKS, "ioctl TUNSETIFF": "ENOTTY"},
    "mountd": {**LIBC_ASKS, **dict.fromkeys(
        ("openat2", "umount2", "fsopen", "open_tree", "move_mount", "unlinkat", "socket unix", "connect",
         "bind", "listen"), MAY)},
    # Its own -sandbox may be there already or not.
    "qemu": {"openat": "ENOENT", "openat of fd 5": MAY,
             "clone3": "ENOSYS", "io_uring_setup": "ENOSYS",
             **dict.fromkeys(("socketpair", "access", "mmap", "mmap exec", "mprotect exec", "memfd_create", "setsockopt",
                              "writev elsewhere", "seccomp"), MAY)},
    # The same; and a thread that makes what a guest names must be able to.
    "virtiofsd": {"clone3": MAY, "userfaultfd": MAY,
                  **dict.fromkeys((
                      "clone process", "clone namespaces", "accept", "accept4 another", "sendto", "open", "openat",
                      "openat to write", "openat of fd 5", "openat of fd 5 to overwrite",
                      "openat of fd 5 with another mode", "openat2", "unlinkat", "renameat", "chdir", "access",
                      "mount", "umount2", "unshare", "pivot_root", "mmap", "setresuid", "setresgid", "setgroups",
                      "capset", "prctl dumpable", "prctl name", "seccomp", "fcntl DUPFD", "fcntl SETOWN", "pidfd_open",
                      "writev elsewhere"), MAY)},
}


def attempts(name):
    """([(call, errno)], [call]): what this process is answered, and what kills it."""
    answers = ANSWERS[name]
    check(not set(answers) - set(CALLS), "an answer to a call that is not in the list")
    return ([(c, a) for c, a in answers.items() if a not in (MAY, "KILL")],
            [c for c in CALLS if answers.get(c, "KILL") == "KILL"])


def make(victim, name):
    number, *args = CALLS[name]
    instruction = inject.INT_80 if inject.INT_80 in args else inject.SYSCALL
    own = int(proc.status_field(victim.pid, "NSpid").split()[-1])
    return victim.call(number, *[own if a is SELF else a for a in args if a is not inject.INT_80],
                       instruction=instruction)


def must_be_answered(role, victim, name, answer):
    got = make(victim, name)
    check_equal(errno.errorcode.get(-got, got), answer, f"{role}: {name}")


def must_kill(role, victim, name):
    # int 0x80 is a fault where the kernel was told to have no 32-bit calls.
    deaths = ("SIGSYS", "SIGSEGV") if inject.INT_80 in CALLS[name] else ("SIGSYS",)
    try:
        got = make(victim, name)
    except Died as end:
        check(inject.signal_name(end.signal) in deaths, f"{role}: {name}: {end}")
    else:
        raise AssertionError(f"{role}: {name} answered {errno.errorcode.get(-got, got)}")


def rounds(names):
    """Per sandbox, what each process is answered and then the one call it does not survive."""
    answered, deadly = {}, {}
    for name in names:
        answered[name], deadly[name] = attempts(name)
    for i in range(max(map(len, deadly.values()))):
        yield {name: (answered[name] if i == 0 else [], deadly[name][i])
               for name in names if i < len(deadly[name])}


def try_round(pids, plan):
    """Each process in turn. The supervisor is stopped first and dies last: until then nobody is told."""
    victims = {name: Victim(pids[name]) for name in {"supervisor": 0, **plan}}
    try:
        for name, (answered, deadly) in sorted(plan.items(), key=lambda item: item[0] == "supervisor"):
            for call, answer in answered:
                must_be_answered(name, victims[name], call, answer)
            must_kill(name, victims[name], deadly)
    finally:
        for pid in (v.pid for v in victims.values() if not v.dead):
            os.kill(pid, signal.SIGKILL)
        for victim in reversed(victims.values()):  # the supervisor last: its own end waits for the others
            victim.reap()


def locked(hand):
    """The sandbox of a `start`: all boxes are shut, nothing has been asked."""
    hand.start()
    sandbox = proc.wait_until(Sandbox.find, 5, "the sandbox")[-1]
    proc.wait_until(lambda: proc.status_field(sandbox.supervisor, "Seccomp") == "2", 5, "LOCK", poll=0.002)
    return sandbox


@test(vm=True, deadline=300)
def every_role_is_refused_what_the_table_says(ctx):
    for plan in rounds(ROLES):
        with HandMade(ctx.containerd, ctx.new_id()) as hand:
            try_round(locked(hand).roles(), plan)
            check_equal(hand.delete().code, 0, "delete")


class Creating:
    """A Create under way, in another thread; it fails when the machine is killed."""

    def __init__(self, hand):
        self.task = hand.task()
        self.thread = threading.Thread(target=self._run, args=(hand,))
        self.thread.start()

    def _run(self, hand):
        try:
            self.task.create(hand.id, hand.bundle)
        except (ttrpc.RpcError, ttrpc.Lost, OSError):
            pass

    def join(self):
        self.thread.join()
        self.task.close()


def machine(sandbox):
    """QEMU and virtiofsd as soon as both run under their filters: QEMU has its second thread."""
    def both():
        pids = sandbox.roles()
        return set(VM) <= set(pids) and proc.status_field(pids["qemu"], "Threads") != "1" and pids
    return proc.wait_until(both, 10, "QEMU runs", poll=0.002)


@test(vm=True, deadline=300)
def qemu_and_virtiofsd_are_refused_what_the_table_says(ctx):
    """Right after they are executed: the filter that counts is ours, theirs comes on top."""
    for plan in rounds(VM):
        with HandMade(ctx.containerd, ctx.new_id()) as hand:
            sandbox = locked(hand)
            creating = Creating(hand)
            try:
                try_round(machine(sandbox), plan)
            finally:
                result = hand.delete()
                creating.join()
            check_equal(result.code, 0, "delete")


# -- a crash is reported as what it is

# (what it does, the signal it must die of, its last words)
CRASHES = [
    (lambda victim: victim.crash("abort"), signal.SIGABRT, ""),
    (lambda victim: victim.crash("__stack_chk_fail"), signal.SIGABRT, "*** stack smashing detected ***"),
    (lambda victim: victim.crash(None), signal.SIGSEGV, ""),
    (lambda victim: make(victim, "execve"), signal.SIGSYS, ""),
]


def end_of(pid, act):
    try:
        act(Victim(pid))
    except Died as end:
        return inject.signal_name(end.signal)
    return "nothing"


def logged(role, number):
    hint = ", for a system call its filter forbids" if number == signal.SIGSYS else ""
    return f"{role} was killed by signal {int(number)} ({number.name[3:]}){hint}"


@each([r for r in ROLES if r != "supervisor"], vm=True)
def a_crash_is_logged_as_what_it_is(ctx, role):
    for act, number, words in CRASHES:
        with HandMade(ctx.containerd, ctx.new_id()) as hand:
            check_equal(end_of(locked(hand).roles()[role], act), number.name)
            proc.wait_until(lambda: logged(role, number) in hand.log(), 2, f"{logged(role, number)}: {hand.log()}")
            check_contains(hand.log(), words)
            hand.delete()


@contextlib.contextmanager
def reaper():
    """Orphans of what we start are ours to wait for: the supervisor's launcher has exited."""
    inject.subreaper(True)
    try:
        yield
    finally:
        inject.subreaper(False)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


@test(vm=True)
def a_crash_of_the_supervisor_is_its_end(ctx):
    """Nobody is left to log it. PID 1 cannot raise a signal to itself: its abort() ends as a fault."""
    for function in ("abort", "__stack_chk_fail", None):
        with HandMade(ctx.containerd, ctx.new_id()) as hand, reaper():
            pid = locked(hand).supervisor
            Victim(pid).crash(function, watch=False)  # a PID 1 that is traced survives a fault
            _, status = os.waitpid(pid, 0)
            check_equal(inject.signal_name(Died(status).signal), "SIGSEGV", function)
            hand.delete()


@each(VM, vm=True)
def a_crash_of_the_machine_ends_it_as_what_it_is(ctx, name):
    for act, number, words in CRASHES:
        with HandMade(ctx.containerd, ctx.new_id()) as hand:
            sandbox = locked(hand)
            creating = Creating(hand)
            try:
                check_equal(end_of(machine(sandbox)[name], act), number.name)
                if name == "qemu":
                    proc.wait_until(lambda: logged(name, number) in hand.log(), 2, logged(name, number))
            finally:
                hand.delete()
                creating.join()


# -- what only some machines, or some moments, ask

def survivors(sandbox):
    return {n: p for n, p in sandbox.roles().items() if n in ROLES}


@test(vm=True)
def whoever_is_stopped_goes_on(ctx):
    """The kernel continues an interrupted wait, and not always under the number it was asked by."""
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        sandbox = locked(hand)
        before = survivors(sandbox)
        for pid in before.values():
            os.kill(pid, signal.SIGSTOP)
            proc.wait_until(lambda: proc.state(pid) == "T", 5, "it is stopped")
        for pid in before.values():
            os.kill(pid, signal.SIGCONT)
        check_not_found(hand)
        check_equal(survivors(sandbox), before)
        hand.delete()


def check_not_found(hand):
    task = hand.task()
    try:
        task.state(hand.id)
    except ttrpc.RpcError as e:
        check_contains(str(e), "not found")
    finally:
        task.close()


def n_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def start_without_vdso(hand):
    """`start`, and everything of the sandbox to LOCK, on a machine whose vDSO has no clock."""
    out, inside = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(inside, 1)
        os.chdir(hand.bundle)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execve(hand.binary, hand._argv("start"), hand._env())
    os.close(inside)
    os.waitpid(pid, os.WUNTRACED)
    tracer, found = inject.NoVdso(pid), []

    def is_locked():
        found[:] = Sandbox.find()
        return found and proc.status_field(found[-1].supervisor, "Seccomp") == "2" and not proc.alive(pid)
    tracer.follow(is_locked)
    with os.fdopen(out) as f:
        hand.address = f.read().strip()
    return tracer.execs


@test(vm=True)
def a_clock_without_vdso(ctx):
    """Where the vDSO has no clock source, every look at the clock is a system call."""
    with HandMade(ctx.containerd, ctx.new_id()) as hand:
        execs = start_without_vdso(hand)
        check(execs >= len(ROLES) + 3, f"{execs} programs were executed: the launcher, the roles, two slots")
        sandbox = Sandbox.find()[-1]
        before = survivors(sandbox)
        check_equal(set(before), set(ROLES))
        time.sleep(6)  # libevent asks for the time of day not more than once in 5 s
        check_not_found(hand)
        held = n_fds(before["agentd"])
        creating = Creating(hand)
        try:
            proc.wait_until(lambda: n_fds(before["agentd"]) > held, 10, "agentd has the guest's streams")
            check_equal(survivors(sandbox), before)
        finally:
            hand.delete()
            creating.join()
