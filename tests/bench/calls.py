"""What a client waits for, call by call, beside the runc shim in the same run."""

import contextlib
import os
import time

from lib import image, lab, look, ttrpc
from lib.proc import run
from lib.shim import HandMade
from report import heading, ms, spread

TRUE = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"]}


def timed(seconds, action, *args, **named):
    began = time.monotonic()
    result = action(*args, **named)
    seconds.append((time.monotonic() - began) * 1e6)
    return result


def exec_true(task, cid, i):
    eid = f"e{i}"
    task.exec(cid, eid, TRUE)
    task.start(cid, eid)
    status = task.wait(cid, eid)
    task.delete(cid, eid)
    if status != 0:
        raise AssertionError(f"true ended with {status}")


def kill_and_wait(task, cid):
    task.kill(cid)
    if task.wait(cid) != 137:
        raise AssertionError("not the status of SIGKILL")


def measure(ctx, lower, rounds, **shim):
    """{what: [µs]}"""
    times = {"exec `true`: Exec, Start, Wait, Delete": [], "Stats": [], "Kill until Wait answers": []}
    execs, stats, kills = times.values()
    with HandMade(ctx.containerd, ctx.new_id(), **shim) as hand:
        hand.start()
        with contextlib.closing(hand.task()) as task:
            task.create(hand.id, hand.bundle, hand.overlay(lower))
            task.start(hand.id)
            for i in range(rounds):
                timed(execs, exec_true, task, hand.id, i)
            for _ in range(10 * rounds):
                timed(stats, task.stats, hand.id)
            for life in range(max(2, rounds // 4)):
                cid = f"{hand.id}-{life}"
                bundle, rootfs = hand.sibling(cid, ("/bin/sleep", "1000"), lower)
                task.create(cid, bundle, rootfs)
                task.start(cid)
                timed(kills, kill_and_wait, task, cid)
                task.delete(cid)
            task.kill(hand.id)
            task.wait(hand.id)
            task.delete(hand.id)
            hand.end(task)
    return times


def compare(ctx, rounds):
    lower = image.unpack_busybox(os.path.join(lab.work_dir(), "bench-lower"))
    runc = os.path.dirname(run(["sh", "-c", "command -v containerd-shim-runc-v2"], check=True).text.strip())
    heading("calls of one client, in ms; the guest's part in them is TCG's where that is what runs")
    ours = measure(ctx, lower, rounds)
    theirs = measure(ctx, lower, rounds, bin_dir=runc, shim="runc")
    rows = [("", "n", "p50", "p95", "max", "runc p50", "p50 : runc")]
    for what, times in ours.items():
        (p50, p95, most), (base, _, _) = spread(times), spread(theirs[what])
        rows.append((what, len(times), p50, p95, most, base, f"{float(p50) / float(base):.2f}"))
    print(look.table(rows))
