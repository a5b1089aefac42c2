"""Beside reading back: fds, and texts."""
import ctypes
import os
import pathlib
import random
import socket
import subprocess
import tempfile
import time

from vm import Missing, Vm, same_file, tap_of

HERE = pathlib.Path(__file__).resolve().parent
MS_BIND, MS_REC = 4096, 16384
libc = ctypes.CDLL(None, use_errno=True)
OF_QEMU = ("anon_inode:", "/memfd:", "pipe:", "/dev/shm/", "/dev/null", "/dev/kvm")


def numbers(pid):
    return sorted(int(n) for n in os.listdir(f"/proc/{pid}/fd"))


def fd_table(vm):
    """QEMU has every fd at its number, the same open file; and of others only what it made itself."""
    wrong = []
    for number, (kind, fd) in vm.fds.items():
        try:
            if kind == "socket":
                right = os.stat(f"/proc/{vm.pid}/fd/{number}").st_ino == vm.inodes[number]
            elif kind == "tap":
                right = tap_of(vm.pid, number) == vm.tap and same_file(vm.pid, number, fd)
            elif kind == "disk":  # -add-fd closes the number once the set has its copy
                right = any(same_file(vm.pid, n, fd) for n in numbers(vm.pid))
            else:
                right = same_file(vm.pid, number, fd)
        except OSError as error:
            right, kind = False, f"{kind} ({error})"
        if not right:
            wrong.append(f"fd {number} is not our {kind}")
    return wrong + strangers(vm)


def strangers(vm):
    """What is neither ours nor of a kind that QEMU makes. A vhost-user-fs adds one end of a pair."""
    wrong, kept = [], {n for n, (kind, _) in vm.fds.items() if kind != "disk"}
    disks, pairs = [fd for kind, fd in vm.fds.values() if kind == "disk"], 1 if vm.virtiofsd else 0
    for number in numbers(vm.pid):
        try:
            target = os.readlink(f"/proc/{vm.pid}/fd/{number}").removeprefix(vm.root)
        except FileNotFoundError:
            continue
        if number < 3 or number in kept or any(same_file(vm.pid, number, fd) for fd in disks):
            continue
        if target in vm.files:  # memory that is mapped from it, by its path
            continue
        if target.startswith("socket:") and pairs:
            pairs -= 1
        elif not target.startswith(OF_QEMU):
            wrong.append(f"fd {number} is a stranger: {target}")
    return wrong


# --- texts

# Text and its longest length in bytes.
TEXTS = {"name": 127, "append": 2047, "serial": 20, "tag": 36}
PATHS = ("kernel", "initrd", "bios", "mem_path")
IDS = {"netdev": 56, "disk": 26, "port": 63}  # "virtio-" and the netdev's make 63
CHARACTERS = [",", "=", " ", '"', "'", "\\", "%", "$", "{", "}", ":", ";", "a", "Z", "0", "\u00e9", "\u4e16", "\U0001f600"]
ROUNDS = 12


def printer(options):
    if not options.build:
        raise Missing("--build, for the printer")
    return pathlib.Path(options.build) / "tests" / "qemu" / "qemu_printer"


def printed(options, **values):
    """(words, None) or (None, sentence)"""
    argv = [printer(options), *(f"{k.replace('_', '-')}={v}" for k, v in values.items())]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=20)
    if done.returncode == 0:
        return done.stdout.decode().split("\0")[:-1], None
    return None, done.stderr.decode(errors="replace")


def some_text(rng, longest, full, without=""):
    text, size = "", rng.randint(1, longest)
    while True:
        c = rng.choice(CHARACTERS)
        if c in without:
            continue
        if len((text + c).encode()) > (longest if full else size):
            # Filled to the last byte, where the maximum is what is tried.
            return text + "x" * (longest - len(text.encode()) if full else 0) or "x"
        text += c


def path_of(rng, folder, full):
    """A file name is 255 bytes long at most; "/" separates."""
    left = 255 - len(folder.encode()) - 1
    return f"{folder}/{some_text(rng, min(left, 200), full)}"


def some_id(rng, longest, full):
    length = longest if full else rng.randint(1, longest)
    return rng.choice("aZ") + "".join(rng.choice("bY09-._") for _ in range(length - 1))


def some_values(rng, folder, full):
    values = {k: some_text(rng, n, full) for k, n in TEXTS.items()}
    values.update((k, some_id(rng, n, full)) for k, n in IDS.items())
    while len({values.get(k) for k in PATHS} - {None}) < len(PATHS):
        values.update((k, path_of(rng, folder, full)) for k in PATHS)
    return values


def values_in(vm, values):
    """The same, as QEMU has them."""
    get, devices = vm.qmp.get, "/machine/peripheral"
    nic, disk = f"{devices}/virtio-{values['netdev']}", f"{devices}/disk-{values['disk']}"
    return {"name": vm.qmp.command("query-name")["name"], "append": get("/machine", "append"),
            "serial": get(disk, "serial"), "tag": get(f"{devices}/fs0", "tag"),
            "kernel": get("/machine", "kernel"), "initrd": get("/machine", "initrd"),
            "bios": get("/machine", "firmware"), "mem_path": get("/objects/mem", "mem-path"),
            "netdev": get(nic, "netdev"), "disk": get(disk, "drive"),
            "port": get(f"{devices}/port-agent", "name")}


def texts_arrive_unchanged(options):
    """Through argv, key=value, JSON: what the builder takes is what QEMU has."""
    rng = random.Random(options.seed)
    files = {"kernel": f"{options.image}/kernel", "initrd": f"{options.image}/initrd",
             "bios": "/usr/share/seabios/bios-256k.bin"}
    for i in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="bulkhead-") as folder:
            values = some_values(rng, folder, i % 3 == 0)
            for key, target in files.items():
                os.symlink(target, values[key])
            os.mkdir(values["mem_path"])
            words, sentence = printed(options, **values)
            if sentence:
                raise AssertionError(f"seed {options.seed}: {values} is refused: {sentence}")
            with Vm(words, image=options.image) as vm:
                got = values_in(vm, values)
            for key, want in values.items():
                if got[key] != want:
                    raise AssertionError(f"seed {options.seed}: {key} {want!r} is {got[key]!r} in QEMU")
    return f"{ROUNDS} times {len(values)} values, seed {options.seed}"


def bad_identifier(rng, longest):
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice("0123456789-._,= \"\\/") + "x" * rng.randint(0, longest - 2)
    if kind == 1:
        return "x" * (longest + rng.randint(1, 40))
    if kind == 2:
        return ""
    return "x" + rng.choice([",", "=", " ", '"', "\\", "/", ":", "\u00e9", "\n", "\x7f"]) + "x"


def bad_text(rng, longest):
    if rng.randrange(2):
        return "x" * (longest + rng.randint(1, 40))
    return "x" + rng.choice(["\n", "\x01", "\x1b", "\x7f", "\u0085", "\ufffe", "\t"]) + "x"


def what_is_outside_is_refused(options):
    """One sentence each, and no word of a command line."""
    rng = random.Random(options.seed)
    bad = {"netdev": lambda: bad_identifier(rng, 63), "disk": lambda: bad_identifier(rng, 26),
           "port": lambda: bad_identifier(rng, 63), "name": lambda: bad_text(rng, 127),
           "append": lambda: bad_text(rng, 2047), "serial": lambda: bad_text(rng, 20),
           "tag": lambda: bad_text(rng, 36), "kernel": lambda: bad_text(rng, 255),
           "initrd": lambda: bad_text(rng, 255), "bios": lambda: bad_text(rng, 255),
           "mem_path": lambda: bad_text(rng, 255),
           "vcpus": lambda: rng.choice([0, 256, rng.randint(256, 1 << 31)]),
           "memory": lambda: rng.choice([0, 31, rng.randint((1 << 20) + 1, (1 << 32) - 1)]),
           "max_vcpus": lambda: rng.randint(256, 1 << 31), "slots": lambda: rng.randint(1, 256),
           "mtu": lambda: rng.choice([rng.randint(1, 67), rng.randint(65536, 1 << 31)]),
           "mac0": lambda: rng.choice([0, 1, 3, 255]), "set": lambda: rng.choice([0, 1000001, 1 << 31]),
           "machine": lambda: rng.randint(4, 1 << 31), "accel": lambda: rng.randint(2, 1 << 31),
           "confidential": lambda: rng.randint(1, 1 << 31)}
    for key, value in bad.items():
        for _ in range(8):
            wrong = value()
            words, sentence = printed(options, **{key: wrong})
            if words is not None:
                raise AssertionError(f"seed {options.seed}: {key} {wrong!r} is taken")
            if sentence.count("\n") != 1 or not sentence.strip() or "runtime error" in sentence:
                raise AssertionError(f"seed {options.seed}: {key} {wrong!r}: {sentence!r}")
    return f"{len(bad)} fields, 8 values each, seed {options.seed}"


# --- a tap

def a_tap_is_gone_after_quit(options):
    """Handed over, its four queues are QEMU's alone: quit ends the tap."""
    words, sentence = printed(options)
    if sentence:
        raise AssertionError(sentence)
    at = next(i for i, w in enumerate(words) if w.startswith('{"type":"tap"'))
    number = words[at].split('"fds":"')[1].split('"')[0]
    words[at] = words[at].replace(f'"{number}"', f'"{number}:201:202:203"')
    with Vm(words, image=options.image) as vm:
        queues = vm.qmp.command("human-monitor-command", command_line="info network").count("type=tap")
        vm.close_theirs(("tap",))
        there = vm.tap in [name for _, name in socket.if_nameindex()]
        vm.qmp.command("quit")
        os.waitid(os.P_PID, vm.pid, os.WEXITED | os.WNOWAIT)
        deadline = time.monotonic() + 5
        while vm.tap in [name for _, name in socket.if_nameindex()] and time.monotonic() < deadline:
            time.sleep(0.05)
        gone = vm.tap not in [name for _, name in socket.if_nameindex()]
    if (queues, there, gone) != (4, True, True):
        raise AssertionError(f"{queues} queues, there while QEMU lives: {there}, gone after: {gone}")


CHECKS = {f.__name__: f for f in (texts_arrive_unchanged, what_is_outside_is_refused, a_tap_is_gone_after_quit)}


# --- another QEMU

def bind(root, path):
    """The same directory at the same name in the root; in this mount namespace only."""
    target = root + path
    os.makedirs(target, exist_ok=True)
    if libc.mount(path.encode(), target.encode(), None, MS_BIND | MS_REC, None) != 0:
        raise OSError(ctypes.get_errno(), f"bind {path}")


def debian13(options, tally, paths, goldens):
    """Every line by the QEMU of a Debian 13 root too, which is made where there is none."""
    root = str(pathlib.Path(options.debian13).resolve())
    made = subprocess.run([HERE.parent / "debian13/root", root], check=False)
    if made.returncode == 77:
        raise Missing("debootstrap, for a Debian 13 root")
    made.check_returncode()
    for path in ("/dev", "/tmp", options.image):
        bind(root, path)
    goldens(options, tally, paths, root=root, what="debian13/")
