"""What the pod's network costs: until its tap is QEMU's, and a packet through it."""

import contextlib
import json
import os
import re
import resource
import select
import socket
import statistics
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../guest"))

from lib import lab, look, proc  # noqa: E402
from lib.net import Networks, ip  # noqa: E402
from lib.shim import HandMade  # noqa: E402
from report import heading, quantile, spread  # noqa: E402
from vm import Vm, msg  # noqa: E402


# -- the link


def show_attach(build):
    """By the program that plays frontend and vmmd for the real netd, beside ip and tc."""
    text = proc.run([os.path.join(build, "tests/bench/netd_bench")], deadline=300, check=True,
                    env={**os.environ, "BULKHEAD_BUILD": build}).text
    times, calls = {}, {}
    for line in text.splitlines():
        kind, *rest = line.split("\t")
        if kind == "time":
            times.setdefault((rest[0], rest[1]), []).append(int(rest[2]))
        elif kind == "calls":
            calls[rest[0], rest[1]] = rest[2:]
    heading("the pod's link, in ms: netd finds it; its tap, redirects and fds; the same made by ip and tc")
    rows = [("", "queues", "p50", "p95", "max", ": ip and tc", "system calls", "execs")]
    for (what, queues), t in times.items():
        base = statistics.median(times["ip and tc", queues])
        rows.append((what, queues, *spread(t), f"{statistics.median(t) / base:.2f}", *calls.get((what, queues), "--")))
    print(look.table(rows))


# -- a packet

ROUNDS, ECHOES, WINDOW = 21, 2000, 16


class Echo:
    """Asks a guest for echoes, so many at a time; counts what that costs."""

    def __init__(self, link, address, pid):
        self.address, self.pid, self.id = address, pid, os.getpid() & 0xffff
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())

    def request(self, n):
        body = struct.pack("!HH56x", self.id, n)
        words = sum(struct.unpack("!30H", body)) + 0x0800
        words = (words & 0xffff) + (words >> 16)
        words = (words & 0xffff) + (words >> 16)
        return struct.pack("!BBH", 8, 0, ~words & 0xffff) + body

    def answered(self):
        if not select.select([self.socket], [], [], 5)[0]:
            raise AssertionError(f"{self.address} does not answer any more")
        data = self.socket.recv(2048)
        return data[20] == 0 and data[24:26] == struct.pack("!H", self.id)

    def round(self, count=ECHOES):
        """CPU time in ns of one echo: QEMU's, and the kernel's on behalf of who sends."""
        before = proc.cpu_ns(self.pid), resource.getrusage(resource.RUSAGE_SELF).ru_stime
        sent = got = 0
        while got < count:
            while sent < count and sent - got < WINDOW:
                self.socket.sendto(self.request(sent), (self.address, 0))
                sent += 1
            got += self.answered()
        return (proc.cpu_ns(self.pid) - before[0] +
                (resource.getrusage(resource.RUSAGE_SELF).ru_stime - before[1]) * 1e9) / count


class ByHand(Vm):
    """A QEMU with the command line of one of ours, but for its fds and what keeps it in: in the namespace
    `ns`, with the tap that is there."""

    def __init__(self, ours, ns, *args):
        super().__init__(*args)
        self.ours, self.ns = ours, ns

    def argv(self, agent, console, share):
        fds = {"agent": agent, "console": console, "virtiofs": share}
        files = {"-kernel": "kernel", "-initrd": "initrd"}
        argv = ["nsenter", f"--net=/run/netns/{self.ns}"]
        words = iter(self.ours)
        for word in words:
            if word in ("-sandbox", "-mon"):
                next(words)
            elif word in files:
                argv += [word, os.path.join(self.image, files[word])]
                next(words)
            elif word == "-chardev":
                chardev = next(words)
                name = re.match(r"socket,id=(\w+),", chardev)[1]
                if name in fds:
                    argv += [word, f"socket,id={name},fd={fds[name]}"]
            elif word.startswith('{"type":"tap"'):
                netdev = {k: v for k, v in json.loads(word).items() if k not in ("fd", "fds")}
                argv.append(json.dumps({**netdev, "ifname": TAP, "script": "no", "downscript": "no"}))
            elif word != "-S":
                argv.append(word)
        return argv


TAP = "hand0"
UP = 1  # IFF_UP
SCOPE_LINK = 253
BY_HAND = f"""
ip -n NS tuntap add dev {TAP} mode tap vnet_hdr
ip -n NS link set {TAP} up
tc -n NS qdisc add dev eth0 ingress
tc -n NS qdisc add dev {TAP} ingress
tc -n NS filter add dev eth0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev {TAP}
tc -n NS filter add dev {TAP} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev eth0
"""


def pod(nets, third):
    """A namespace whose eth0 leads to the lab; (it, the other end's name, the guest's address)."""
    ns, link = nets.namespace(), f"p{third}"
    ip(f"link add {link} type veth peer name eth0 netns", ns)
    nets.links.append(link)
    ip(f"addr add 10.30.{third}.1/24 dev {link}")
    ip("link set", link, "up")
    ip(f"addr add 10.30.{third}.2/24 dev eth0", ns=ns)
    ip("link set eth0 up", ns=ns)
    return ns, link, f"10.30.{third}.2"


def by_hand(ours, nets, stage_dir, stack):
    ns, link, address = pod(nets, 2)
    proc.run(["sh", "-ec", BY_HAND.replace("NS", ns)], check=True)
    mac = next(json.loads(w)["mac"] for w in ours if w.startswith('{"driver":"virtio-net'))
    vm = ByHand(ours, ns, os.path.join(stage_dir, "share/bulkhead"), os.path.join(lab.work_dir(), "by-hand"))
    stack.callback(vm.stop)
    vm.start().hello()
    vm.call("UpdateInterface", msg(1, msg(1, "eth0", 2, "eth0", 3, msg(1, 0, 2, address, 3, "24"), 4, 1500, 5, mac, 8, UP)))
    vm.call("UpdateRoutes", msg(1, msg(1, msg(1, address.rsplit(".", 1)[0] + ".0/24", 3, "eth0", 5, SCOPE_LINK))))
    return Echo(link, address, vm.qemu.pid)


def show_packets(ctx):
    heading(f"host CPU of an echo through the pod's link, in µs: {ROUNDS - 1} times {ECHOES} echoes each, {WINDOW} at once")
    with Networks(ctx) as nets, contextlib.ExitStack() as stack:
        ns, link, address = pod(nets, 1)
        hand = stack.enter_context(HandMade(ctx.containerd, ctx.new_id()))
        task = stack.enter_context(contextlib.closing(hand.run_in(f"/run/netns/{ns}")))
        qemu = proc.Sandbox(hand.pid).roles()["qemu"]
        echoes = {"in a sandbox": Echo(link, address, qemu),
                  "by hand": by_hand(proc.cmdline(qemu), nets, ctx.stage_dir, stack)}
        times = {name: [] for name in echoes}
        for i in range(ROUNDS):
            for name in sorted(echoes, reverse=i % 2):
                ns_each = echoes[name].round()
                if i > 0:
                    times[name].append(ns_each / 1000)
        task.kill(hand.id)
        task.wait(hand.id)
        task.delete(hand.id)
        hand.end(task)
    ratios = sorted(a / b for a, b in zip(*times.values()))
    base = statistics.median(times["by hand"])
    print(look.table([("", "p50", "p95", "max", ": by hand")] +
                     [(n, *(f"{v:.1f}" for v in (statistics.median(t), quantile(t, 0.95), max(t))),
                       f"{statistics.median(t) / base:.2f}") for n, t in times.items()]))
    print(f"\nround by round: median {statistics.median(ratios):.3f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")


def show(ctx, build):
    show_attach(build)
    if ctx.is_vm:
        show_packets(ctx)
