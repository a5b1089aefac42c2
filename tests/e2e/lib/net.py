"""Pods' network namespaces, by real CNI plugins or by hand, and a comparison with the guest."""

import json
import os
import shutil
import subprocess
import time

from . import image, lab, proc
from .runner import Skip, check_equal

PLUGINS = "/usr/lib/cni"
IMAGE = "docker.io/library/net:test"
NETDUMP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../build/release/tests/e2e/netdump")


def ip(*args, ns=None):
    """`ip ARGS`, in a namespace."""
    return proc.run(["ip", *(["-n", ns] if ns else []), *" ".join(args).split()], check=True).text


def inside(ns, *argv, **options):
    return proc.run(["ip", "netns", "exec", ns, *argv], **options)


def write_image(path):
    """busybox, and the program that prints what a network namespace holds."""
    layer = image.Layer()
    with open(NETDUMP, "rb") as f:
        layer.file("bin/netdump", f.read(), 0o755)
    return image.write_image(path, IMAGE, [image.busybox_layer(), layer.done()])


class Networks:
    """Everything of one test: taken away again at its end, whatever has happened."""

    def __init__(self, ctx):
        self.ctx = ctx
        self.namespaces, self.links, self.added = [], [], []
        self.state = os.path.join(lab.work_dir(), "cni")

    def __enter__(self):
        if not os.path.exists(NETDUMP):
            raise Skip("netdump is not built")
        if not getattr(self.ctx, "has_net_image", False):
            tar = os.path.join(lab.work_dir(), "net.tar")
            self.ctx.containerd.import_image(write_image(tar))
            os.unlink(tar)
            self.ctx.has_net_image = True
        return self

    def __exit__(self, *_):
        for ns, name, conf in self.added:
            self._plugin("DEL", ns, name, conf)
        for ns in self.namespaces:
            proc.run(["ip", "netns", "del", ns])
        for link in self.links:
            proc.run(["ip", "link", "del", link])
        shutil.rmtree(self.state, ignore_errors=True)
        # The first `ip netns add` makes a mount of its own.
        proc.run(["umount", "/run/netns"])

    def namespace(self):
        name = self.ctx.new_id()
        ip("netns add", name)
        self.namespaces.append(name)
        ip("link set lo up", ns=name)
        return name

    # -- CNI

    def _plugin(self, command, ns, name, conf):
        env = dict(os.environ, CNI_COMMAND=command, CNI_CONTAINERID=ns, CNI_IFNAME=name,
                   CNI_NETNS=f"/run/netns/{ns}", CNI_PATH=PLUGINS)
        return subprocess.run([os.path.join(PLUGINS, conf["type"])], env=env, capture_output=True,
                              input=json.dumps(conf).encode(), timeout=30)

    def _conf(self, kind, subnets, routes, more):
        return {"cniVersion": "0.4.0", "name": f"net-{kind}-{subnets[0].split('/')[0]}", "type": kind,
                "ipam": {"type": "host-local", "dataDir": self.state,
                         "ranges": [[{"subnet": s}] for s in subnets],
                         "routes": [{"dst": r} for r in routes]}, **more}

    def cni(self, ns, kind, name="eth0", subnets=("10.88.0.0/24",), routes=("0.0.0.0/0",), **conf):
        """Has a plugin make a link in the namespace; returns what it says."""
        if not os.path.exists(os.path.join(PLUGINS, kind)):
            raise Skip(f"no CNI plugin {kind} (package containernetworking-plugins)")
        conf = self._conf(kind, subnets, routes, conf)
        result = self._plugin("ADD", ns, name, conf)
        if result.returncode != 0:
            raise AssertionError(f"{kind}: {result.stdout.decode()} {result.stderr.decode()}")
        self.added.append((ns, name, conf))
        if conf.get("bridge") and conf["bridge"] not in self.links:
            self.links.append(conf["bridge"])
        return json.loads(result.stdout)

    def ctr_cni(self, argv, kind, subnets, routes, **conf):
        """argv so that `ctr run --cni` in it finds this network. It looks in fixed places only, and libcni
        writes to one: a mount namespace of its own has them."""
        conf = self._conf(kind, subnets, routes, conf)
        path = os.path.join(self.state, "late.conflist")
        with open(path, "w") as f:
            json.dump({**{k: conf.pop(k) for k in ("cniVersion", "name")}, "plugins": [conf]}, f)
        script = ("for d in /etc /opt /var/lib; do mount -t tmpfs cni $d; done; mkdir -p /etc/cni/net.d /opt/cni; "
                  f"ln -s {PLUGINS} /opt/cni/bin; cp {path} /etc/cni/net.d; exec \"$@\"")
        return ["unshare", "--mount", "sh", "-ec", script, "sh", *argv]

    def bridge(self, ns, name="eth0", bridge="cni0", **conf):
        return self.cni(ns, "bridge", name, bridge=bridge, isGateway=True, **conf)

    # -- the container

    def options(self, ns):
        return ("--with-ns", f"network:/run/netns/{ns}")

    def run(self, ns, script, deadline=90, options=()):
        return self.ctx.containerd.run_rm(IMAGE, self.ctx.new_id(), "sh", "-c", script,
                                          options=(*self.options(ns), *options), deadline=deadline)

    def ok(self, ns, script, deadline=90, options=()):
        result = self.run(ns, script, deadline, options)
        if result.code != 0:
            raise AssertionError(f"{result}\n{self.ctx.containerd.log_tail(40)}")
        return result.text

    # -- comparing

    def dump(self, ns):
        settle(ns)
        return lines(inside(ns, NETDUMP, check=True).text)

    def compare(self, ns):
        """The pod's namespace, before and after, and the guest: raises with the differences."""
        before, tc = self.dump(ns), self.tc(ns)
        same(before, lines(self.ok(ns, "netdump")))
        check_equal(self.dump(ns), before, "the pod's namespace after the sandbox")
        check_equal(self.tc(ns), tc, "qdiscs and filters after the sandbox")
        return before

    def tc(self, ns):
        out = proc.run(["tc", "-n", ns, "qdisc", "show"], check=True).text
        for link in json.loads(proc.run(["ip", "-n", ns, "-j", "link"], check=True).text):
            out += proc.run(["tc", "-n", ns, "filter", "show", "dev", link["ifname"], "ingress"]).text
        return out


def settle(ns):
    """Waits for the carrier of links that are up, and the addresses that the kernel gives them: up to a second later."""
    end = time.monotonic() + 2 * proc.patience
    while not settled(ns) and time.monotonic() < end:
        time.sleep(0.02)


def settled(ns):
    links = json.loads(proc.run(["ip", "-n", ns, "-j", "addr"], check=True).text)
    if any("UP" in l["flags"] and l["operstate"] in ("DOWN", "LOWERLAYERDOWN") for l in links):
        return False
    return all(any(a.get("scope") == "link" and a["family"] == "inet6" and not a.get("tentative") for a in l["addr_info"])
               for l in links if l["operstate"] == "UP")


def same(pod, guest):
    diff = [f"only in the pod: {l}" for l in pod if l not in guest]
    diff += [f"only in the guest: {l}" for l in guest if l not in pod]
    if diff:
        raise AssertionError("\n".join(diff))


def lines(text):
    """What netdump prints, without the loopback."""
    return sorted(l for l in text.splitlines() if l.split()[1] != "lo" and " dev lo " not in l)
