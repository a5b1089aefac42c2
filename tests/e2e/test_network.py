"""The pod's network in the guest: real CNI plugins, real links, both directions."""

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import time

import test_kill
from lib import image, leaks, proc
from lib.inject import Died, Victim, signal_name
from lib.net import IMAGE, NETDUMP, Networks, inside, ip, lines, same
from lib.proc import Sandbox
from lib.runner import Skip, check, check_contains, check_equal, each, test
from lib.shim import HandMade, run_delete

DUAL = ("10.88.0.0/24", "fd88::/64")
BOTH = ("0.0.0.0/0", "::/0")


# -- what a set-up looks like: each makes a namespace and returns it

def bridge(nets):
    ns = nets.namespace()
    nets.bridge(ns)
    return ns


def bridge_dual_stack(nets):
    ns = nets.namespace()
    nets.bridge(ns, subnets=DUAL, routes=BOTH)
    return ns


def bridge_mtu_1400(nets):
    ns = nets.namespace()
    nets.bridge(ns, mtu=1400)
    return ns


def bridge_mtu_9000(nets):
    ns = nets.namespace()
    nets.bridge(ns, mtu=9000)
    return ns


def ptp(nets):
    ns = nets.namespace()
    nets.cni(ns, "ptp")
    return ns


def ptp_dual_stack(nets):
    ns = nets.namespace()
    nets.cni(ns, "ptp", subnets=DUAL, routes=BOTH)
    return ns


# What macvlan, ipvlan and vlan are made of: the plugin's own keys.
KINDS = {"macvlan": {}, "ipvlan_l2": {"mode": "l2"}, "ipvlan_l3": {"mode": "l3"}, "vlan": {"vlanId": 7}}


def node_link(nets):
    """mv0, as a node has its link, and the other end of the wire, mv1."""
    ip("link add mv0 type veth peer name mv1")
    nets.links.append("mv0")
    ip("link set mv0 up")
    ip("link set mv1 up")


def need(kind):
    """Of the kernel, which has to make a link on mv0."""
    if proc.run(["ip", "link", "add", "link", "mv0", "name", "probe", "type", kind,
                 *(["id", "9"] if kind == "vlan" else [])]).code != 0:
        raise Skip(f"this kernel has no {kind}")
    ip("link del probe")


def on_node_link(nets, name, ns, master="mv0"):
    kind = name.split("_")[0]
    need(kind)
    return nets.cni(ns, kind, master=master, **KINDS[name])


def made_on_node_link(nets, name):
    node_link(nets)
    ns = nets.namespace()
    on_node_link(nets, name, ns)
    return ns


def macvlan(nets):
    return made_on_node_link(nets, "macvlan")


def ipvlan_l2(nets):
    return made_on_node_link(nets, "ipvlan_l2")


def ipvlan_l3(nets):
    return made_on_node_link(nets, "ipvlan_l3")


def vlan(nets):
    return made_on_node_link(nets, "vlan")


def two_nics(nets):
    ns = nets.namespace()
    nets.bridge(ns)
    nets.bridge(ns, name="net1", bridge="cni1", subnets=("10.89.0.0/24",), routes=("10.90.0.0/16",))
    return ns


def by_hand(nets, *commands):
    """A veth eth0, its other end in the lab, and `ip` commands in the namespace."""
    ns = nets.namespace()
    host = f"h{len(nets.links)}"
    ip("link add", host, "type veth peer name eth0 netns", ns)
    nets.links.append(host)
    ip("link set", host, "up")
    ip("link set eth0 up", ns=ns)
    for command in commands:
        ip(command, ns=ns)
    return ns


def slash_32_with_onlink_gateway(nets):
    return by_hand(nets, "addr add 10.5.0.7/32 dev eth0", "route add 169.254.1.1 dev eth0 scope link",
                   "route add default via 169.254.1.1 dev eth0 onlink",
                   "neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent")


def route_mtu_and_source(nets):
    return by_hand(nets, "addr add 10.6.0.2/24 dev eth0", "addr add 10.6.0.3/24 dev eth0",
                   "route add default via 10.6.0.1 dev eth0 mtu 1390 src 10.6.0.3 metric 50",
                   "route add 10.7.0.0/16 via 10.6.0.1 dev eth0 metric 20",
                   "-6 addr add fd06::2/64 dev eth0 nodad",
                   "-6 route add default via fd06::1 dev eth0 mtu 1380 metric 7")


def static_arp(nets):
    return by_hand(nets, "addr add 10.8.0.2/24 dev eth0", "-6 addr add fd08::2/64 dev eth0 nodad",
                   "neigh add 10.8.0.1 lladdr 02:00:00:00:08:01 dev eth0 nud permanent",
                   "-6 neigh add fd08::1 lladdr 02:00:00:00:08:01 dev eth0 nud permanent",
                   "neigh add 10.8.0.9 lladdr 02:00:00:00:08:09 dev eth0 nud stale")


def many_routes(nets):
    ns = by_hand(nets, "addr add 10.9.0.2/24 dev eth0", "-6 addr add fd09::2/64 dev eth0 nodad")
    batch = "".join(f"route add 10.{100 + i // 250}.{i % 250}.0/24 via 10.9.0.1 dev eth0 metric {i}\n"
                    for i in range(400))
    batch += "".join(f"route add fd10:{i:x}::/48 via fd09::1 dev eth0\n" for i in range(200))
    proc.run(["ip", "-n", ns, "-batch", "-"], stdin=batch.encode(), check=True)
    return ns


def point_to_point_address(nets):
    return by_hand(nets, "addr add 10.11.0.1 peer 10.11.0.2/32 dev eth0 scope link")


def noarp_and_renamed(nets):
    return by_hand(nets, "link set eth0 down", "link set eth0 name pod-link address 02:00:00:00:0b:01 arp off",
                   "link set pod-link mtu 1450 up", "addr add 10.12.0.2/30 dev pod-link")


def a_link_that_is_down(nets):
    ns = by_hand(nets, "link set eth0 down")
    nets.bridge(ns, name="net1")
    return ns


SETUPS = [bridge, bridge_dual_stack, bridge_mtu_1400, bridge_mtu_9000, ptp, ptp_dual_stack, macvlan,
          ipvlan_l2, ipvlan_l3, vlan, two_nics,
          slash_32_with_onlink_gateway, route_mtu_and_source, static_arp, many_routes,
          point_to_point_address, noarp_and_renamed, a_link_that_is_down]


@each([f.__name__ for f in SETUPS], vm=True)
def the_guest_has_what_the_pod_has(ctx, name):
    with Networks(ctx) as nets:
        nets.compare(globals()[name](nets))


# -- what stays when somebody dies

def kill_while_it_runs(ctx, cid, role, *options):
    sandbox = Sandbox(ctx.containerd.run_detached(image.BUSYBOX, cid, "sleep", "1000", options=options))
    os.kill(sandbox.roles()[role], signal.SIGKILL)
    ctx.containerd.wait_stopped(cid)
    ctx.containerd.task_rm_status(cid)


DEATHS = {
    "start": (test_kill.kill_at_start, test_kill.AT_START, test_kill.AT_START),
    "create": (test_kill.kill_at_create, test_kill.STEADY, ("supervisor", "vmmd", "qemu")),
    "run": (kill_while_it_runs, test_kill.STEADY, ("qemu",)),
}


@each(DEATHS, vm=True, deadline=300)
def the_pods_links_are_as_before_after_a_kill(ctx, phase):
    kill, every, some = DEATHS[phase]
    with Networks(ctx) as nets:
        ns = bridge_dual_stack(nets)
        before = nets.dump(ns), nets.tc(ns)
        for role in every if ctx.long else some:
            cid = ctx.new_id()
            kill(ctx, cid, role, *nets.options(ns))
            run_delete(ctx.containerd, cid)
            ctx.containerd.ctr("container", "rm", cid)
            check_equal((nets.dump(ns), nets.tc(ns)), before, role)


ROUNDS, LONG_ROUNDS = 3, 200
FILES_TOLERATED = 300  # test_repeat.py says why


@test(vm=True, deadline=9000)
def sandboxes_in_sequence(ctx):
    """In one pod: each finds what the first found, and leaves it so."""
    with Networks(ctx) as nets:
        ns = bridge_dual_stack(nets)
        before, files, kernel = (nets.dump(ns), nets.tc(ns)), leaks.open_files(), []
        for i in range(LONG_ROUNDS if ctx.long else ROUNDS):
            check_contains(nets.ok(ns, "ping -c 1 -W 10 10.88.0.1"), "1 packets received")
            check_equal((nets.dump(ns), nets.tc(ns)), before, f"round {i}")
            kernel.append(leaks.kernel_kib())
        proc.wait_until(lambda: leaks.open_files() - files < FILES_TOLERATED, 20, "no file more is open", poll=0.05)
        if ctx.long:
            check(growth(kernel) < KERNEL_KIB_A_ROUND, f"the kernel's memory has grown by {growth(kernel):.1f} KiB a round")
            print(f"     the kernel's memory, KiB a round: {growth(kernel):.1f}")


KERNEL_KIB_A_ROUND = 16  # others work on the machine too; a link, a namespace or a socket is more


def growth(values):
    """A round: between the least of the first quarter and the least of the last, where nobody else was in the way."""
    quarter = len(values) // 4
    return (min(values[-quarter:]) - min(values[:quarter])) / (len(values) - quarter)


@each(["4", "8"], vm=True)
def several_queues(ctx, queues):
    """As many as are asked for: of the tap, in QEMU, in the guest; and a packet comes back."""
    with Networks(ctx) as nets:
        ns = by_hand(nets, "addr add 10.14.0.2/24 dev eth0")
        before = nets.dump(ns), nets.tc(ns)
        ip("addr add 10.14.0.1/24 dev", nets.links[-1])
        bin_dir = ctx.other_prefix(network_queues=queues, vcpus=2)
        script = "ls -d /sys/class/net/eth0/queues/rx-* | wc -l; ping -c 3 -W 10 10.14.0.1; sleep 1000"
        with HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir, cmd=("/bin/sh", "-c", script)) as hand:
            task = hand.run_in(f"/run/netns/{ns}")
            qemu = Sandbox(hand.pid).roles()["qemu"]
            text = read_until(hand.stdout, b"packets received")
            check_equal(text.split()[0], b"2", "queues of the guest: one for each CPU")
            check_contains(text.decode(), "3 packets received")
            check_equal(len(taps_of(qemu)), int(queues), "taps of QEMU")
            check_contains(ip("-d link show tap0_bk", ns=ns), f"numqueues 2 numdisabled {int(queues) - 2} ")
            end(hand, task)
        check_equal((nets.dump(ns), nets.tc(ns)), before, "afterwards")


@test(vm=True, deadline=240)
def vhost_net_where_it_is(ctx):
    """One fd for each queue is QEMU's, its thread carries the packets; and none where it is disabled."""
    if not os.path.exists("/dev/vhost-net"):
        raise Skip("no /dev/vhost-net")
    with Networks(ctx) as nets:
        ns = by_hand(nets, "addr add 10.16.0.2/24 dev eth0")
        ip("addr add 10.16.0.1/24 dev", nets.links[-1])
        for queues, disabled in (("1", "0"), ("4", "0"), ("1", "1")):
            bin_dir = ctx.other_prefix(network_queues=queues, disable_vhost_net=disabled, vcpus=2)
            script = "ping -c 20 -i 0.1 -W 10 10.16.0.1; sleep 1000"
            with HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir, cmd=("/bin/sh", "-c", script)) as hand:
                task = hand.run_in(f"/run/netns/{ns}")
                check_contains(read_until(hand.stdout, b"packets received").decode(), "20 packets received")
                qemu = Sandbox(hand.pid).roles()["qemu"]
                nodes = [os.readlink(f"/proc/{qemu}/fd/{f}") for f in os.listdir(f"/proc/{qemu}/fd")]
                check_equal(nodes.count("/dev/vhost-net"), 0 if disabled == "1" else int(queues), "vhost-net fds of QEMU")
                spent = vhost_threads_ns(qemu)
                if disabled == "1":
                    check_equal(spent, [], "threads of vhost-net")
                else:
                    check(len(spent) >= int(queues) and any(spent), f"threads of vhost-net have worked: {spent}")
                end(hand, task)


# Below the lab's /proc is the one that shows the kernel's threads, and QEMU by its number out there.
OUTSIDE = """umount /proc && for t in /proc/[0-9]*/task/[0-9]*; do
	read -r name <$t/comm
	case $name in vhost-* | qemu-*) echo $name $(sed -n 's/^NSpid://p' $t/status | cut -f 2,3) $(cut -d ' ' -f 1 $t/schedstat) ;; esac
done"""


def vhost_threads_ns(qemu):
    """CPU time of each. They are the kernel's own up to 6.3, named after who made them; then QEMU's."""
    text = proc.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", OUTSIDE]).text
    seen = [l.split() for l in text.splitlines()]
    outer = next(l[1] for l in seen if len(l) == 4 and l[2] == str(qemu))
    return [int(l[-1]) for l in seen if l[0] == f"vhost-{outer}"]


def end(hand, task):
    task.kill(hand.id)
    task.wait(hand.id)
    task.delete(hand.id)
    hand.end(task)


# -- the other models

def pod_and_peer(nets, name):
    """Two namespaces that reach each other and nobody else, always by the same addresses. The peer tells its name."""
    pod, peer = nets.namespace(), nets.namespace()
    ip("link add eth0 netns", pod, "type veth peer name eth0 netns", peer)
    for ns, address in ((pod, 2), (peer, 1)):
        ip(f"addr add 10.15.0.{address}/24 dev eth0", ns=ns)
        ip("link set eth0 up", ns=ns)
    web = os.path.join(nets.state, name)
    os.makedirs(web)
    with open(os.path.join(web, "name"), "w") as f:
        f.write(f"this is {name}\n")
    return pod, Server(peer, web, "10.15.0.1")


@test(vm=True, deadline=240)
def macvtaps_of_the_same_number(ctx):
    """Two pods at once, in both of which the macvtap has the same ifindex: each reaches its own peer."""
    with Networks(ctx) as nets, contextlib.ExitStack() as stack:
        pods = [pod_and_peer(nets, name) for name in ("one", "two")]
        stack.callback(lambda: [server.stop() for _, server in pods])
        before = [(nets.dump(ns), nets.tc(ns)) for ns, _ in pods]
        bin_dir = ctx.other_prefix(network_model="macvtap")
        # Not wget: busybox's crashes where there is no /etc.
        script = "printf 'GET /name HTTP/1.0\\r\\n\\r\\n' | nc 10.15.0.1 8080 | tail -n 1; sleep 1000"
        running = []
        for ns, _ in pods:
            hand = stack.enter_context(HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir, cmd=("/bin/sh", "-c", script)))
            running.append((hand, hand.run_in(f"/run/netns/{ns}")))
        for (hand, _), name in zip(running, ("one", "two")):
            check_equal(read_until(hand.stdout, b"\n").decode(), f"this is {name}\n")
        numbers = [json.loads(ip("-j link show tap0_bk", ns=ns))[0]["ifindex"] for ns, _ in pods]
        check_equal(numbers[0], numbers[1], "ifindex")
        for hand, task in running:
            end(hand, task)
        check_equal([(nets.dump(ns), nets.tc(ns)) for ns, _ in pods], before, "afterwards")


@test(vm=True)
def no_model_no_nic(ctx):
    """network_model=none: the guest has its loopback, and the pod's link is left alone."""
    with Networks(ctx) as nets:
        ns = by_hand(nets, "addr add 10.14.0.2/24 dev eth0")
        before = nets.dump(ns), nets.tc(ns)
        bin_dir = ctx.other_prefix(network_model="none")
        with HandMade(ctx.containerd, ctx.new_id(), bin_dir=bin_dir, cmd=("/bin/sh", "-c", "ls /sys/class/net; sleep 1000")) as hand:
            task = hand.run_in(f"/run/netns/{ns}")
            check_equal(read_until(hand.stdout, b"\n").split(), [b"lo"])
            check_equal((nets.dump(ns), nets.tc(ns)), before, "while it runs")
            end(hand, task)


def read_until(fd, word, seconds=60):
    text, end = b"", time.monotonic() + seconds * proc.patience
    while word not in text and time.monotonic() < end:
        if select.select([fd], [], [], 0.5)[0]:
            text += os.read(fd, 65536)
    return text


TUN = {"TUNSETIFF": 0x400454ca, "TUNSETPERSIST": 0x400454cb, "TUNSETOWNER": 0x400454cc, "TUNSETGROUP": 0x400454ce}
SYS_IOCTL = 16


@test(vm=True)
def qemu_cannot_keep_its_tap(ctx):
    """A QEMU that has been taken over: its filter ends it, and the tap goes with it."""
    with Networks(ctx) as nets:
        ns = by_hand(nets, "addr add 10.13.0.2/24 dev eth0")
        before = nets.dump(ns), nets.tc(ns)
        for name, request in TUN.items():
            cid = ctx.new_id()
            client = test_kill.begin(ctx, cid, *nets.options(ns))
            sandbox, pid = test_kill.watch_for("qemu", client)
            check(sandbox, "QEMU was not seen")
            tap = proc.wait_until(lambda: tap_of(pid), 5, "QEMU has its tap")
            try:
                Victim(pid).call(SYS_IOCTL, tap, request, struct.pack("16sH22x", b"tap9", 2))
                raise AssertionError(f"{name} was answered")
            except Died as end:
                check_equal(signal_name(end.signal), "SIGSYS", name)
            test_kill.failed_with_a_reason(client)
            run_delete(ctx.containerd, cid)
            ctx.containerd.ctr("container", "rm", cid)
            check_equal((nets.dump(ns), nets.tc(ns)), before, name)


def taps_of(pid):
    """Their numbers."""
    return [int(n) for n in os.listdir(f"/proc/{pid}/fd")
            if os.readlink(f"/proc/{pid}/fd/{n}") == "/dev/net/tun"]


def tap_of(pid):
    """Its number in a QEMU that has its threads, or nothing."""
    return next(iter(taps_of(pid)), None) if int(proc.status_field(pid, "Threads") or 0) >= 3 else None


# -- traffic

MEGABYTES = 10


class Server:
    """Answers HTTP in a namespace, until it is stopped."""

    def __init__(self, ns, directory, address, port=8080):
        self.child = subprocess.Popen(["ip", "netns", "exec", ns, "busybox", "httpd", "-f", "-p",
                                       f"{address}:{port}", "-h", directory])

    def stop(self):
        self.child.kill()
        self.child.wait()


def address_of(result, version):
    return next(i["address"].split("/")[0] for i in result["ips"] if i["version"] == version)


class Traffic:
    """The gateway, another pod, 10 MB by HTTP from that one, by IPv4 and IPv6; a name. Made for a network of
    which `there` is the other pod."""

    def __init__(self, nets, other, there):
        self.addresses = [address_of(there, "4"), address_of(there, "6")]
        self.pings = [i["gateway"] for i in there["ips"]] + self.addresses
        proc.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"], check=True)
        web = os.path.join(nets.state, "web")
        os.makedirs(web)
        with open(os.path.join(web, "data"), "wb") as f:
            f.write(os.urandom(MEGABYTES << 20))
        self.sum = proc.run(["sha256sum", os.path.join(web, "data")], check=True).text.split()[0]
        self.resolv_conf = os.path.join(nets.state, "resolv.conf")
        with open(self.resolv_conf, "w") as f:
            f.write(f"nameserver {self.addresses[0]}\n")
        self.servers = [Server(other, web, "[::]"), Resolver(other, self.addresses[0])]

    # As CRI, Docker and nerdctl hand it over.
    def options(self):
        return "--mount", f"type=bind,src={self.resolv_conf},dst=/etc/resolv.conf,options=rbind:ro"

    def script(self):
        four, six = self.addresses
        return ("set -e; " + "".join(f"ping -c 1 -W 10 {a} >/dev/null; " for a in self.pings) +
                f"wget -q -O - http://{four}:8080/data | sha256sum; wget -q -O - 'http://[{six}]:8080/data' | sha256sum; "
                "nslookup -type=a pod.test | tail -3")

    def check(self, out):
        check_equal(out.count(self.sum), 2, out)
        check_contains(out, "192.0.2.77")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()


@each(["bridge", "ptp"], vm=True, deadline=240)
def pings_fetches_and_resolves(ctx, kind):
    with Networks(ctx) as nets:
        pod, other = nets.namespace(), nets.namespace()
        conf = {"bridge": "cni0", "isGateway": True} if kind == "bridge" else {}
        nets.cni(pod, kind, subnets=DUAL, routes=BOTH, **conf)
        with Traffic(nets, other, nets.cni(other, kind, subnets=DUAL, routes=BOTH, **conf)) as traffic:
            traffic.check(nets.ok(pod, traffic.script(), deadline=200, options=traffic.options()))


@each(list(KINDS), vm=True)
def pods_on_one_wire(ctx, name):
    """A pod whose link is made on the node's reaches another one's."""
    with Networks(ctx) as nets:
        node_link(nets)
        pod, other = nets.namespace(), nets.namespace()
        on_node_link(nets, name, pod)
        # A link has each VLAN once: the other one is at the other end.
        far = address_of(on_node_link(nets, name, other, "mv1" if name == "vlan" else "mv0"), "4")
        check_contains(nets.ok(pod, f"ping -c 3 -W 10 {far}"), "3 packets received")


@test(vm=True, deadline=240)
def links_that_come_after_create(ctx):
    """`ctr run --cni` has them made when the task is there and before it is started."""
    with Networks(ctx) as nets:
        other, cid, c = nets.namespace(), ctx.new_id(), ctx.containerd
        conf = {"kind": "bridge", "subnets": DUAL, "routes": BOTH, "bridge": "cni0", "isGateway": True}
        with Traffic(nets, other, nets.cni(other, **conf)) as traffic:
            argv = c.run_argv(IMAGE, cid, "sleep", "1000", options=("-d", "--cni", *traffic.options()))
            proc.run(nets.ctr_cni(argv, **conf), check=True, deadline=90)
            sandbox = Sandbox(c.task_pid(cid))
            check("netd" not in sandbox.roles(), "netd has exited before the container runs")
            pod = proc.run(["nsenter", f"--net=/proc/{sandbox.supervisor}/ns/net", NETDUMP], check=True).text
            same([l for l in lines(pod) if "tap0_bk" not in l], lines(c.exec(cid, "dump", "netdump").text))
            out = c.exec(cid, "traffic", "sh", "-c", traffic.script(), deadline=200)
            traffic.check(out.text + out.errtext)
            # Newer ones take the network away when they kill: they need the same configuration.
            proc.run(nets.ctr_cni(c.ctr_argv("task", "kill", "-s", "SIGKILL", cid), **conf), check=True)
            c.wait_stopped(cid)
            c.remove(cid)


class Resolver:
    """A name server in a namespace: every name is 192.0.2.77. Until it is stopped."""

    CODE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    q, who = s.recvfrom(512)
    end = q.index(b"\\0", 12) + 5
    a = q[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + q[12:end]
    s.sendto(a + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xc0\\0\\2\\x4d", who)
"""

    def __init__(self, ns, address):
        self.child = subprocess.Popen(["ip", "netns", "exec", ns, "python3", "-c", self.CODE, address],
                                      stdout=subprocess.PIPE)
        check_equal(self.child.stdout.readline(), b"ready\n")

    def stop(self):
        self.child.kill()
        self.child.communicate()
