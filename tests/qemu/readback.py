"""What a running QEMU says of each value of its command line."""
import re

from vm import keyvals, objects

# Without a property that can be read: why.
UNREADABLE = {
    ("-device", "vhostfd"): "an fd that the device keeps for itself",
    ("-netdev", "vhost"): "info network does not say",
    ("-netdev", "vhostfds"): "compared as fds of the process",
    ("-blockdev", "aio"): "not in query-named-block-nodes",
    ("-blockdev", "locking"): "not in query-named-block-nodes",
    ("-blockdev", "discard"): "not in query-named-block-nodes",
    ("-object", "qom-type"): "compared by type",
}


class Compared:
    def __init__(self):
        self.n, self.unreadable, self.wrong = 0, 0, []

    def equal(self, what, want, got):
        self.n += 1
        if want != got:
            self.wrong.append(f"{what}: the line has {want!r}, QEMU {got!r}")


def base(path):
    return path.rsplit("/", 1)[-1]


def device_value(key, want, got):
    """Both in one form."""
    if key in ("memdev", "rng", "iothread"):
        return want, base(got)
    if key == "addr":
        return int(want, 16), int(str(got).split(".")[0], 16) if isinstance(got, str) else got >> 3
    return want, got


def read_devices(qmp, words, out):
    for device in objects(words, "-device"):
        path = f"/machine/peripheral/{device['id']}"
        for key, want in device.items():
            what = f"-device {device['id']} {key}"
            if key == "id":
                continue
            if ("-device", key) in UNREADABLE:
                out.unreadable += 1
            elif key == "driver":
                out.equal(what, want, qmp.get(path, "type"))
            elif key == "bus":
                out.equal(what, want, base(qmp.get(path, "parent_bus")))
            elif isinstance(qmp.get(path, key), str) or key != "addr":
                out.equal(what, *device_value(key, want, qmp.get(path, key)))
            else:
                out.equal(what, int(want, 16), qmp.get(path, key) >> 3)


def read_objects(qmp, words, out):
    for o in objects(words, "-object"):
        path = f"/objects/{o['id']}"
        for key, want in o.items():
            if key == "qom-type":
                out.equal(f"-object {o['id']} {key}", want, qmp.get(path, "type"))
            elif key == "readonly":
                out.unreadable += 1  # write-only in QEMU: seen on the mapping instead
            elif key != "id":
                out.equal(f"-object {o['id']} {key}", want, qmp.get(path, key))


def read_blocks(qmp, words, out):
    nodes = {n["node-name"]: n for n in qmp.command("query-named-block-nodes")}
    for b in objects(words, "-blockdev"):
        name = b["node-name"]
        node = nodes.get(name, {})
        out.equal(f"-blockdev {name} driver", b["driver"], node.get("drv"))
        out.equal(f"-blockdev {name} read-only", b["read-only"], node.get("ro"))
        out.equal(f"-blockdev {name} cache.direct", b["cache"]["direct"], node.get("cache", {}).get("direct"))
        if "filename" in b:
            out.equal(f"-blockdev {name} filename", b["filename"], node.get("file"))
        out.unreadable += sum(("-blockdev", key) in UNREADABLE for key in b)
    sets = {s["fdset-id"]: s["fds"] for s in qmp.command("query-fdsets")}
    for add in keyvals(words, "-add-fd"):
        found = sets.get(int(add["set"]), [{}])
        out.equal("-add-fd opaque", [add["opaque"]], [fd.get("opaque") for fd in found][:1])


def read_netdevs(qmp, words, out):
    text = qmp.command("human-monitor-command", command_line="info network")
    for netdev in objects(words, "-netdev"):
        seen = re.findall(rf"{netdev['id']}: index=\d+,type=tap,fd=(\d+)", text)
        out.equal(f"-netdev {netdev['id']} fds", netdev["fds"].split(":"), seen)
        out.unreadable += 1
    for device in objects(words, "-device"):
        if device["driver"].startswith("virtio-net"):
            rx = qmp.command("query-rx-filter", name=device["id"])
            out.equal(f"-device {device['id']} mac", device["mac"], rx[0]["main-mac"])


def size(text):
    units = {"M": 20, "G": 30}
    return int(text[:-1]) << units[text[-1]] if text[-1] in units else int(text)


def read_accel(qmp, words, out):
    accel = keyvals(words, "-accel")[0]
    out.equal("-accel", accel[""] == "kvm", qmp.command("query-kvm")["enabled"])
    if "tb-size" in accel:
        text = qmp.command("x-query-jit")["human-readable-text"]
        got = int(re.search(r"gen code size +\d+/(\d+)", text)[1])
        # QEMU keeps some pages between its regions for itself.
        out.equal("-accel tb-size", True, 0 <= (int(accel["tb-size"]) << 20) - got < 1 << 20)


def read_machine(vm, qmp, words, out):
    machine = keyvals(words, "-machine")[0]
    for key, want in machine.items():
        if key == "":
            out.equal("-machine type", True, want in qmp.get("/machine", "type"))
        elif key == "memory-backend":
            out.equal("-machine memory-backend", want, base(qmp.get("/machine", key)))
        elif key != "kernel-irqchip":
            got = qmp.get("/machine", key)
            out.equal(f"-machine {key}", want, {True: "on", False: "off"}.get(got, got))
    smp, cpus = keyvals(words, "-smp")[0], qmp.get("/machine", "smp")
    out.equal("-smp cpus", int(smp[""]), cpus["cpus"])
    out.equal("-smp cpus, made", int(smp[""]), len(qmp.command("query-cpus-fast")))
    out.equal("-smp maxcpus", int(smp.get("maxcpus", smp[""])), cpus["max-cpus" if "max-cpus" in cpus else "maxcpus"])
    m, memory = keyvals(words, "-m")[0], qmp.get("/machine", "memory")
    out.equal("-m size", size(m[""]), memory["size"])
    if "slots" in m:
        out.equal("-m slots", int(m["slots"]), memory["slots"])
        out.equal("-m maxmem", size(m["maxmem"]), memory["max-size"])
    cpu = keyvals(words, "-cpu")[0]
    path = qmp.command("query-cpus-fast")[0]["qom-path"]
    out.equal("-cpu", f"{cpu['']}-{vm.cpu.replace('aarch64', 'arm')}-cpu", qmp.get(path, "type"))
    if "pmu" in cpu:
        out.equal("-cpu pmu", cpu["pmu"] == "on", qmp.get(path, "pmu"))


def read_rest(vm, words, out):
    qmp, after = vm.qmp, dict(zip(words, words[1:]))
    out.equal("-name", keyvals(words, "-name")[0]["guest"], qmp.command("query-name")["name"])
    for key in ("kernel", "initrd", "append"):
        out.equal(f"-{key}", after[f"-{key}"], qmp.get("/machine", key))
    if "-bios" in after:
        out.equal("-bios", after["-bios"], qmp.get("/machine", "firmware"))
    out.equal("-S", "prelaunch", qmp.command("query-status")["status"])
    chardevs = {c["label"] for c in qmp.command("query-chardev")}
    for chardev in keyvals(words, "-chardev"):
        out.equal(f"-chardev {chardev['id']}", True, chardev["id"] in chardevs)
    threads = {t["id"] for t in qmp.command("query-iothreads")}
    for o in objects(words, "-object"):
        if o["qom-type"] == "iothread":
            out.equal(f"-object {o['id']}", True, o["id"] in threads)
    for g in keyvals(words, "-global"):
        serial = qmp.get("/machine/peripheral/serial0", "parent_bus").rsplit("/", 1)[0]
        out.equal("-global " + g["property"], g["value"] == "on", qmp.get(serial, g["property"]))
    status = open(f"/proc/{vm.pid}/status").read()
    out.equal("-sandbox", "2", re.search(r"^Seccomp:\s*(\d)", status, re.M)[1])


def read_back(vm):
    out = Compared()
    for read in (read_devices, read_objects, read_blocks, read_netdevs):
        read(vm.qmp, vm.words, out)
    read_accel(vm.qmp, vm.words, out)
    read_machine(vm, vm.qmp, vm.words, out)
    read_rest(vm, vm.words, out)
    return out
