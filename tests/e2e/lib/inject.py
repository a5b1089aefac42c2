"""Another process made to do something by ptrace: one system call, or a crash.

The victim stops, whatever it does; the instruction is put where its libc has abort(), which nobody
needs meanwhile. It is the process itself that acts, with its own credentials, fds and filters. All of it
from one thread: ptrace(2) asks for that.
"""

import ctypes
import os
import signal
import struct

from . import proc

SEIZE, INTERRUPT, CONT, GETREGS, SETREGS, POKEDATA, DETACH = 0x4206, 0x4207, 7, 12, 13, 5, 17
FOLLOW_FORKS_AND_EXECS, EVENT_EXEC = 0x1e, 4  # PTRACE_O_TRACEFORK, VFORK, CLONE, EXEC
WALL = 0x40000000
SYSCALL, INT_80, TRAP = b"\x0f\x05", b"\xcd\x80", b"\xcc"
X32 = 0x40000000
MAX_ERRNO = 4095

LIBC = "libc.so.6"

_libc = ctypes.CDLL(LIBC, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class Regs(ctypes.Structure):
    """struct user_regs_struct of x86-64"""
    _fields_ = [(name, ctypes.c_uint64) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
        "fs_base gs_base ds es fs gs").split()]


class Died(Exception):
    """The victim's end: a signal's number, or minus its exit status."""

    def __init__(self, status):
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
        super().__init__(f"it died: {signal_name(self.signal)}")


def signal_name(number):
    return signal.Signals(number).name if number > 0 else f"exit {-number}"


def subreaper(on):
    """Orphans among our descendants become our children, or no longer."""
    if _libc.prctl(36, int(on), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")


def ptrace(request, pid, addr=0, data=0):
    if _libc.ptrace(request, pid, addr, data) < 0:
        code = ctypes.get_errno()
        what = proc.describe(pid)
        raise OSError(code, f"ptrace request {request:#x} of {what}: {os.strerror(code)}")


def _executable(pid):
    """(start, end, offset, name) of its executable mappings."""
    for line in open(f"/proc/{pid}/maps"):
        span, mode, offset, _, _, *name = line.split()
        if "x" in mode and name:
            start, end = (int(x, 16) for x in span.split("-"))
            yield start, end, int(offset, 16), os.path.basename(name[0])


def address_of(pid, function):
    """Where a function of libc is in that process. All run the same libc as we do."""
    ours = ctypes.cast(getattr(_libc, function), ctypes.c_void_p).value
    offset = next(ours - start + off for start, end, off, _ in _executable("self") if start <= ours < end)
    return next(offset - off + start for start, end, off, name in _executable(pid)
                if name == LIBC and off <= offset < off + end - start)


class Victim:
    def __init__(self, pid):
        self.pid, self.dead = pid, False
        ptrace(SEIZE, pid)
        ptrace(INTERRUPT, pid)
        self._wait()
        self.saved = Regs()
        ptrace(GETREGS, pid, 0, ctypes.addressof(self.saved))
        self.code = address_of(pid, "abort")

    def _wait(self):
        """The signal that stopped it."""
        _, status = os.waitpid(self.pid, WALL)
        if not os.WIFSTOPPED(status):
            self.dead = True
            raise Died(status)
        return os.WSTOPSIG(status)

    def _run(self):
        """Until the instruction behind ours, or the end. Signals reach it as usual."""
        deliver = 0
        while True:
            ptrace(CONT, self.pid, 0, deliver)
            deliver = self._wait()
            if deliver == signal.SIGTRAP:
                return

    def _place(self, code):
        ptrace(POKEDATA, self.pid, self.code, struct.unpack("<Q", code.ljust(8, TRAP))[0])

    def _set(self, **values):
        """Registers as they were, but these. No system call of its own goes on: orig_rax."""
        regs = Regs.from_buffer_copy(self.saved)
        regs.orig_rax = 2 ** 64 - 1
        for name, value in values.items():
            setattr(regs, name, value % 2 ** 64)
        ptrace(SETREGS, self.pid, 0, ctypes.addressof(regs))

    def _stack(self):
        """Free memory below its stack pointer, with room above for what it holds there."""
        return (self.saved.rsp - 16384) & ~15

    def _place_arguments(self, args):
        """Bytes go to its stack; their addresses instead of them."""
        at, out = self._stack(), []
        for arg in args:
            if isinstance(arg, bytes):
                with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as mem:
                    mem.seek(at)
                    mem.write(arg)
                out.append(at)
                at += (len(arg) + 15) & ~15
            else:
                out.append(arg)
        return out + [0] * (6 - len(out))

    def call(self, number, *args, instruction=SYSCALL):
        """What it returns, -errno on failure. Raises Died."""
        a = self._place_arguments(args)
        names = ("rbx", "rcx", "rdx", "rsi", "rdi", "rbp") if instruction == INT_80 else \
                ("rdi", "rsi", "rdx", "r10", "r8", "r9")
        self._place(instruction)
        self._set(rip=self.code, rsp=self._stack() - 4096, rax=number, **dict(zip(names, a)))
        self._run()
        regs = Regs()
        ptrace(GETREGS, self.pid, 0, ctypes.addressof(regs))
        return ctypes.c_int64(regs.rax).value

    def crash(self, function, watch=True):
        """Jumps to a function of libc, or to the address 0 for None. Raises Died, or lets it go."""
        # As after a call: the stack pointer is 8 below a multiple of 16.
        self._set(rip=address_of(self.pid, function) if function else 0, rsp=self._stack() - 8)
        if watch:
            self._run()
        ptrace(DETACH, self.pid)

    def reap(self):
        """Waits for the end of one that is being killed: else we would keep it as a zombie."""
        while not self.dead:
            try:
                self._wait()
            except (Died, ChildProcessError):
                self.dead = True


# -- a machine whose vDSO has no clock

def _hide_vdso(pid):
    """Right after its execve(): AT_SYSINFO_EHDR becomes AT_IGNORE, and libc asks the kernel."""
    regs = Regs()
    ptrace(GETREGS, pid, 0, ctypes.addressof(regs))
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as mem:
        at, nulls = regs.rsp, 0
        while nulls < 2:  # behind argv and envp
            at += 8
            mem.seek(at)
            nulls += mem.read(8) == bytes(8)
        while True:
            at += 8 if nulls == 2 else 16
            nulls = 0
            mem.seek(at)
            kind = struct.unpack("<Q", mem.read(8))[0]
            if kind == 33:
                mem.seek(at)
                mem.write(struct.pack("<Q", 1))
            if kind in (0, 33):
                return


class NoVdso:
    """Follows a stopped process and all that it forks; none of what they execute has a vDSO."""

    def __init__(self, pid):
        self.execs, self.traced = 0, {pid}
        ptrace(SEIZE, pid, 0, FOLLOW_FORKS_AND_EXECS)
        os.kill(pid, signal.SIGCONT)

    def follow(self, done):
        """Until done()."""
        while not done():
            pid, status = os.waitpid(-1, WALL | os.WNOHANG)
            if pid and os.WIFSTOPPED(status):
                self._stopped(pid, status)
            elif pid:
                self.traced.discard(pid)
        for pid in self.traced:
            self._let_go(pid)

    def _stopped(self, pid, status):
        self.traced.add(pid)
        event, stop = status >> 16, os.WSTOPSIG(status)
        if event == EVENT_EXEC:
            self.execs += 1
            _hide_vdso(pid)
        ptrace(CONT, pid, 0, 0 if event or stop == signal.SIGSTOP else stop)

    def _let_go(self, pid):
        try:
            ptrace(INTERRUPT, pid)
            _, status = os.waitpid(pid, WALL)
            if os.WIFSTOPPED(status):
                ptrace(DETACH, pid)
        except (ProcessLookupError, ChildProcessError):
            pass
