"""Many sandboxes at once: what each of them takes, and what they do when nobody asks anything."""

import time

from lib import image, leaks, look, proc
from lib.proc import Sandbox
from report import heading

IDLE_S = 60
MACHINE = ("qemu", "virtiofsd")


def show_memory(sandboxes, kernel):
    by_role = {}
    for sandbox in sandboxes:
        for pid in sandbox.pids():
            p = look.Process(pid)
            if p.memory:
                by_role.setdefault(p.role, []).append(p.memory)
    rows = [("", "PSS KiB", "guest's RAM KiB")]
    n, sums = len(sandboxes), [0, 0]
    for role in sorted(by_role, key=lambda r: (r in MACHINE, r)):
        rest, guest = (sum(m[i] for m in by_role[role]) / n for i in (0, 1))
        sums[role in MACHINE] += rest
        rows.append((role, f"{rest:.0f}", f"{guest:.0f}"))
    print(look.table(rows))
    print(f"\neach: our processes {sums[0]:.0f} KiB, QEMU and virtiofsd {sums[1]:.0f} KiB without the guest's RAM; "
          f"kernel memory {kernel / n:.0f} KiB")


def show_idle(sandboxes):
    processes = [(proc.role(pid), pid) for s in sandboxes for pid in s.pids()]
    before = [(proc.wake_ups(pid), proc.cpu_ns(pid)) for _, pid in processes]
    time.sleep(IDLE_S)
    after = [(proc.wake_ups(pid), proc.cpu_ns(pid)) for _, pid in processes]
    by_role = {}
    for (role, _), (w0, c0), (w1, c1) in zip(processes, before, after):
        wakes, cpu = by_role.get(role, (0, 0))
        by_role[role] = wakes + w1 - w0, cpu + c1 - c0
    print(f"\nin {IDLE_S} s in which nobody asks anything, of all {len(sandboxes)} together:\n")
    rows = [("", "wake-ups", "CPU ms")]
    for role in sorted(by_role, key=lambda r: (r in MACHINE, r)):
        rows.append((role, by_role[role][0], f"{by_role[role][1] / 1e6:.1f}"))
    print(look.table(rows))


def show(ctx, count):
    c, ids = ctx.containerd, [ctx.new_id() for _ in range(count)]
    before = leaks.kernel_kib()
    began = time.monotonic()
    sandboxes = [Sandbox(c.run_detached(image.BUSYBOX, cid, "sleep", "1000")) for cid in ids]
    heading(f"{count} sandboxes at once, started one after the other in {time.monotonic() - began:.0f} s: the mean of one")
    time.sleep(2)
    show_memory(sandboxes, leaks.kernel_kib() - before)
    show_idle(sandboxes)
    for cid in ids:
        c.remove(cid)
