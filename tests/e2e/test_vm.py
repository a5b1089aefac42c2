"""It is a virtual machine, and its processes are what they should be."""

import os
import signal
import time

from lib import image, look, proc
from lib.proc import Sandbox
from lib.runner import check, check_equal, test

UNPRIVILEGED = ("supervisor", "frontend", "agentd", "vmmd", "persistd", "qemu")
WHILE_RUNNING = set(UNPRIVILEGED) | {"mountd", "virtiofsd"}
MOUNTD_MAY = {"SYS_ADMIN", "DAC_OVERRIDE", "CHOWN", "FOWNER", "FSETID", "MKNOD", "SETFCAP"}


def read(path):
    with open(path) as f:
        return f.read().strip()


class Running:
    """A detached container that sleeps, and its sandbox; removed at the end."""

    def __init__(self, ctx, *cmd):
        self.c, self.id = ctx.containerd, ctx.new_id()
        self.pid = self.c.run_detached(image.BUSYBOX, self.id, *(cmd or ("sleep", "1000")))
        self.sandbox = Sandbox(self.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.c.remove(self.id)


@test(vm=True)
def the_kernel_is_the_guests(ctx):
    result = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "sh", "-c",
                                   "uname -r; cat /proc/sys/kernel/random/boot_id")
    release, boot_id = result.text.split()
    check_equal(release, read(os.path.join(ctx.stage_dir, "share/bulkhead/kernel.release")), "uname -r")
    check(boot_id != read("/proc/sys/kernel/random/boot_id"), "the boot id is the host's")


@test(vm=True)
def two_sandboxes_are_two_machines(ctx):
    ids = [ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "cat",
                                 "/proc/sys/kernel/random/boot_id").text for _ in range(2)]
    check(ids[0] and ids[0] != ids[1], f"boot ids {ids}")


@test(vm=True)
def killing_qemu_ends_the_task_with_137(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    child = c.popen(image.BUSYBOX, cid, "sh", "-c", "echo ready; exec sleep 1000")
    check_equal(child.stdout.readline(), b"ready\n")
    sandbox = Sandbox(c.task_pid(cid))
    os.kill(sandbox.roles()["qemu"], signal.SIGKILL)
    _, err = child.communicate(timeout=20 * proc.patience)
    check_equal(child.returncode, 137, err.decode())
    c.remove(cid)


@test(vm=True)
def stopping_qemu_freezes_the_output(ctx):
    c, cid = ctx.containerd, ctx.new_id()
    child = c.popen(image.BUSYBOX, cid, "sh", "-c", "while :; do echo tick; usleep 50000; done")
    os.set_blocking(child.stdout.fileno(), False)

    def lines(seconds):
        time.sleep(seconds)
        return (child.stdout.read() or b"").count(b"tick")

    proc.wait_until(lambda: lines(0.1), 60, "the first output")
    qemu = Sandbox(c.task_pid(cid)).roles()["qemu"]
    os.kill(qemu, signal.SIGSTOP)
    lines(0.5)  # what was on its way
    check_equal(lines(1.0), 0, "lines in a second while QEMU is stopped")
    check_equal(c.task_status(cid), "RUNNING", "State is answered meanwhile")
    os.kill(qemu, signal.SIGCONT)
    proc.wait_until(lambda: lines(0.1), 20, "output goes on")
    c.task_kill(cid)
    child.communicate(timeout=20 * proc.patience)
    c.remove(cid)


@test(vm=True)
def the_processes_are_these(ctx):
    with Running(ctx) as r:
        check_equal(set(r.sandbox.roles()), WHILE_RUNNING)
        check_equal(proc.status_field(r.pid, "NSpid").split()[-1], "1", "the task pid is PID 1 of the sandbox")


@test(vm=True)
def every_box_is_shut_while_the_guest_runs(ctx):
    with Running(ctx) as r:
        for role, pid in r.sandbox.roles().items():
            what = f"{role} {pid}"
            check_equal(proc.status_field(pid, "Seccomp"), "2", f"{what}: Seccomp")
            check_equal(proc.status_field(pid, "NoNewPrivs"), "1", f"{what}: NoNewPrivs")
            if role in UNPRIVILEGED:
                for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                    check_equal(int(proc.status_field(pid, name), 16), 0, f"{what}: {name}")
                check_equal(proc.status_field(pid, "Groups"), "", f"{what}: Groups")
        may = set(look.capabilities(r.sandbox.roles()["mountd"]))
        check(may <= MOUNTD_MAY, f"mountd: {may - MOUNTD_MAY}")
        check("user" in look.own_namespaces(r.sandbox.roles()["virtiofsd"]),
              "virtiofsd is in the host's user namespace")


@test(vm=True)
def every_role_has_a_uid_of_its_own(ctx):
    with Running(ctx) as a, Running(ctx) as b:
        seen = {}
        for r in (a, b):
            for role in UNPRIVILEGED:
                uids = proc.status_field(r.sandbox.roles()[role], "Uid").split()
                check_equal(len(set(uids)), 1, f"{role}: real, effective, saved, fs {uids}")
                check(int(uids[0]) >= 2000000000, f"{role}: uid {uids[0]}")
                check(uids[0] not in seen, f"{role} and {seen.get(uids[0])} share uid {uids[0]}")
                seen[uids[0]] = role


@test(vm=True)
def signals_of_a_system_shutdown_are_ignored(ctx):
    with Running(ctx) as r:
        roles = r.sandbox.roles()
        for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            for role in set(roles) - {"qemu", "virtiofsd"}:
                os.kill(roles[role], sig)
        time.sleep(0.3)
        check_equal(r.sandbox.roles(), roles)
        check_equal(r.c.task_status(r.id), "RUNNING")


@test(vm=True)
def the_guests_clock(ctx):
    """Not the counter of an emulated CPU: on a host that has no time for it the guest would take it for too slow."""
    clock = ctx.containerd.run_rm(image.BUSYBOX, ctx.new_id(), "cat",
                                  "/sys/devices/system/clocksource/clocksource0/current_clocksource").text.strip()
    check(clock in (("hpet", "acpi_pm") if ctx.accel == "tcg" else ("kvm-clock", "tsc")), clock)
