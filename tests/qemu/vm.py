"""One QEMU, started with -S from the words of a command line, with a real fd of the right kind at each number."""
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading

libc = ctypes.CDLL(None, use_errno=True)
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE = 0x400454CA, 2, 0x1000, 0x4000, 0x100
CPUS = {"q35": "x86_64", "microvm": "x86_64", "s390-ccw-virtio": "s390x", "virt": "aarch64"}  # of a machine
HAS_KVM = os.environ.get("BULKHEAD_ACCEL") == "kvm"  # that a /dev/kvm is there says little
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
HIGH = 400  # above every number that QEMU or this process has
DISK_SIZE, IMAGE_SIZE = 1 << 20, 128 << 20
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000


class Missing(Exception):
    """The machine lacks something that this command line needs."""


def own_namespaces():
    """For the whole test: taps, and a loop device if there is one, are nobody else's."""
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


class Qmp:
    def __init__(self, sock):
        self.sock, self.buffer = sock, b""
        sock.settimeout(20)
        if "QMP" not in self.line():
            raise RuntimeError("no greeting")
        self.command("qmp_capabilities")

    def line(self):
        while b"\n" not in self.buffer:
            got = self.sock.recv(1 << 16)
            if not got:
                raise EOFError("QMP has ended")
            self.buffer += got
        text, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(text)

    def command(self, execute, /, **arguments):
        return self.raw({"execute": execute, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}})

    def raw(self, command, fds=()):
        text = json.dumps(command).encode()
        if fds:
            socket.send_fds(self.sock, [text], list(fds))
        else:
            self.sock.sendall(text)
        while True:
            answer = self.line()
            if "event" in answer:
                continue
            if "error" in answer:
                raise ValueError(answer["error"]["desc"])
            return answer["return"]

    def get(self, path, name):
        return self.command("qom-get", path=path, property=name)


def objects(words, switch):
    """The JSON objects of a switch."""
    return [json.loads(w) for s, w in zip(words, words[1:]) if s == switch and w.startswith("{")]


def keyvals(words, switch):
    """The key=value lists of a switch: the first value without a key is ''."""
    found = []
    for s, w in zip(words, words[1:]):
        if s == switch and not w.startswith("{"):
            parts = [p.replace("\0", ",") for p in w.replace(",,", "\0").split(",")]
            found.append(dict(p.split("=", 1) if "=" in p else ("", p) for p in parts))
    return found


class Vm:
    """with Vm(words, ...) as vm: vm.qmp, vm.pid, vm.fds {number: (kind, our fd)}"""

    names = threading.Lock()
    made = 0

    def __init__(self, words, image=None, root=""):
        self.root, self.image = root, image  # root: of another system, "": this one
        self.chroot = ["/usr/sbin/chroot", root] if root else []
        self.left_out = []  # what was changed because the machine lacks it
        self.cpu = CPUS[keyvals(words, "-machine")[0][""]]
        self.qemu = f"/usr/bin/qemu-system-{self.cpu}"
        if not os.path.exists(root + self.qemu):
            raise Missing(self.qemu)
        self.words = self.adapt(list(words))
        self.fds, self.ours, self.pid, self.qmp, self.files = {}, [], None, None, []
        self.virtiofsd, self.inodes, self.folders = None, {}, []
        self.stderr = tempfile.TemporaryFile()

    def adapt(self, words):
        """The same line for this machine: paths; TCG for KVM; without vhost where there is none."""
        text = {"/kernel": f"{self.image}/kernel", "/initrd": f"{self.image}/initrd",
                "/firmware": "/usr/share/seabios/bios-256k.bin"}
        result, kvm = [], HAS_KVM and self.cpu == "x86_64"
        for switch, word in zip([""] + words, words):
            word = text.get(word, word)
            if not kvm and switch == "-accel" and word == "kvm":
                word = "tcg"
                self.left_out.append("kvm")
            elif not kvm and switch == "-machine":
                word = word.replace("kernel-irqchip=split,", "")
            elif not kvm and switch == "-cpu" and word.startswith("host"):
                word = word.replace("host", "max", 1)
            elif switch == "-netdev" and '"vhost":true' in word and not os.path.exists("/dev/vhost-net"):
                netdev = json.loads(word)
                netdev["vhost"] = False
                del netdev["vhostfds"]
                word = json.dumps(netdev)
                self.left_out.append("vhost-net")
            elif switch == "-device" and '"vhost-vsock' in word and not os.path.exists("/dev/vhost-vsock"):
                result.pop()
                self.left_out.append("vhost-vsock")
                continue
            result.append(word)
        if any('"hugetlb":true' in w for w in result):
            free = int(open("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read())
            if free < 32:
                raise Missing("huge pages")
        return result

    # --- fds

    def temporary(self, size):
        with tempfile.NamedTemporaryFile(prefix="bulkhead-", delete=False) as f:
            f.truncate(size)
            self.files.append(f.name)
        return self.files[-1]

    def pair(self, number):
        ours, theirs = socket.socketpair()
        self.ours.append(ours)
        self.fds[number] = ("socket", theirs.detach())
        return ours

    def share(self, number):
        """A connection to a virtiofsd."""
        listener, ours = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        folder = tempfile.mkdtemp(prefix="bulkhead-")
        self.folders.append(folder)
        listener.bind(f"{folder}/socket")
        listener.listen(1)
        ours.connect(f"{folder}/socket")
        argv = [VIRTIOFSD, f"--fd={listener.fileno()}", "-f", "-o", f"source={folder}", "-o", "cache=none"]
        self.virtiofsd = subprocess.Popen(argv, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listener.close()
        self.fds[number] = ("socket", ours.detach())

    def taps(self, numbers):
        with Vm.names:
            Vm.made += 1
            name = f"t{Vm.made}"
        for number in numbers:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE
            self.fds[number] = ("tap", fd)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        self.tap = name

    def disk(self, words):
        """The fd of -add-fd: as the node that reads it wants it."""
        for add in keyvals(words, "-add-fd"):
            node = next(b for b in objects(words, "-blockdev")
                        if b.get("filename") == f"/dev/fdset/{add['set']}")
            flags = os.O_RDONLY if node["read-only"] else os.O_RDWR
            if node["driver"] == "host_device":
                path = self.loop()
            else:
                path = self.temporary(DISK_SIZE)
            if node["cache"]["direct"]:
                flags |= os.O_DIRECT
            self.fds[int(add["fd"])] = ("disk", os.open(path, flags | os.O_CLOEXEC))

    def loop(self):
        backing = self.temporary(DISK_SIZE)
        try:
            with Vm.names:
                return self.new_loop(backing)
        except OSError as error:
            raise Missing("loop devices") from error

    def new_loop(self, backing):
        """Another program of this machine may take the number that was free: then the next."""
        for _ in range(20):
            control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
            path = f"/dev/loop{fcntl.ioctl(control, 0x4C82)}"  # LOOP_CTL_GET_FREE
            os.close(control)
            device, file = os.open(path, os.O_RDWR | os.O_CLOEXEC), os.open(backing, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, 0x4C00, file)  # LOOP_SET_FD
            except OSError:
                os.close(device)
                continue
            finally:
                os.close(file)
            info = bytearray(232)  # struct loop_info64
            struct.pack_into("I", info, 52, 4)  # LO_FLAGS_AUTOCLEAR
            fcntl.ioctl(device, 0x4C04, bytes(info))  # LOOP_SET_STATUS64
            self.ours.append(os.fdopen(device))
            return path
        raise OSError("no loop device stays free")

    def fill(self):
        words = self.words
        for i, (switch, word) in enumerate(zip(words, words[1:])):
            if switch == "-object" and '"mem-path":"/image"' in word:
                words[i + 1] = word.replace("/image", self.temporary(IMAGE_SIZE))
        for chardev in keyvals(words, "-chardev"):
            if chardev["id"] == "virtiofs":
                self.share(int(chardev["fd"]))
            elif chardev["id"] == "qmp":
                self.monitor = self.pair(int(chardev["fd"]))
            else:
                self.pair(int(chardev["fd"]))
        for netdev in objects(words, "-netdev"):
            self.taps([int(n) for n in netdev["fds"].split(":")])
            for number in netdev.get("vhostfds", "").split(":") if netdev["vhost"] else ():
                self.fds[int(number)] = ("vhost", os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC))
        for device in objects(words, "-device"):
            if "vhostfd" in device:
                self.fds[int(device["vhostfd"])] = ("vsock", os.open("/dev/vhost-vsock", os.O_RDWR | os.O_CLOEXEC))
        self.disk(words)

    def spawn(self, argv):
        """Every fd at its number, whatever the numbers are here: first all go above both."""
        high = {n: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH) for n, (_, fd) in self.fds.items()}
        null = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        actions = [null, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, self.stderr.fileno(), 2)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in high.items()]
        # Numbers that are nobody's, but may be fds of this process, are close-on-exec.
        try:
            return os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
        finally:
            for fd in high.values():
                os.close(fd)

    def __enter__(self):
        try:
            self.fill()
            self.pid = self.spawn([*self.chroot, self.qemu, *self.words])
            self.close_theirs(("socket",))
            self.qmp = Qmp(self.monitor)
        except (EOFError, OSError, RuntimeError) as error:
            said = self.said()
            self.__exit__()
            raise RuntimeError(f"{error}: {said}") from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def said(self):
        if not self.pid:
            return ""
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace").strip()

    def close_theirs(self, kinds):
        """Our copies of what QEMU has: before them QMP's end could not be seen."""
        for number, (kind, fd) in self.fds.items():
            if kind in kinds and fd >= 0:
                self.inodes[number] = os.fstat(fd).st_ino
                os.close(fd)
                self.fds[number] = (kind, -1)

    def __exit__(self, *_):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # ours until it is waited for
            os.waitpid(self.pid, 0)
            self.pid = None
        if self.virtiofsd:
            self.virtiofsd.kill()
            self.virtiofsd.wait()
        self.stderr.close()
        for _, fd in self.fds.values():
            if fd >= 0:
                os.close(fd)
        self.fds = {}
        for end in self.ours:
            end.close()
        for path in self.files:
            os.unlink(path)
        for folder in self.folders:
            shutil.rmtree(folder)


def same_file(pid, number, fd):
    """Whether QEMU's fd is the same open file as ours: kcmp(KCMP_FILE)."""
    return libc.syscall(312, os.getpid(), pid, 0, fd, number) == 0


def tap_of(pid, number):
    text = open(f"/proc/{pid}/fdinfo/{number}").read()
    found = re.search(r"^iff:\s*(\S+)", text, re.M)
    return found and found[1]
