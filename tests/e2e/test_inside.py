"""What config.json asks of a container's processes, as they read it of themselves: with runc's shim and with ours."""

import os

from lib import lab, stage
from lib.runner import check_equal, each
from test_exec import Hand, process, read_all

MIB = 1 << 20
USER = {"uid": 1000, "gid": 1001, "additionalGids": [7, 4242]}
CAPABILITIES = {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"], "effective": ["CAP_NET_RAW"],
                "permitted": ["CAP_KILL", "CAP_NET_RAW"], "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"]}
ROOTS = {kind: ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted")}
BITS = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}

READ = r"""
grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status
grep -E '^Max (open files|core file size|msgqueue size) ' /proc/self/limits
read oom < /proc/self/oom_score_adj; read port < /proc/sys/net/ipv4/ip_unprivileged_port_start
read shm < /proc/sys/kernel/shm_rmid_forced; read host < /proc/sys/kernel/hostname; read init < /proc/1/comm
read masked < /proc/keys
echo oom $oom, port $port, shm $shm, host $host in $PWD, word ${WORD-none}, init $init, masked ${masked:-yes}
mkdir /tmp/made
echo 1 > /proc/sys/kernel/shm_rmid_forced
touch /etc/new
echo end
"""


def mask(names):
    return f"{sum(1 << BITS[name] for name in names):016x}"


def ask(spec):
    """Everything at once."""
    spec["process"].update(user=USER, capabilities=CAPABILITIES, noNewPrivileges=True, oomScoreAdj=321, cwd="/var",
                           env=["PATH=/bin", "WORD=word"],
                           rlimits=[{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222},
                                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
                                    {"type": "RLIMIT_MSGQUEUE", "soft": 5, "hard": 6}])
    spec["hostname"] = "name-of-it"
    spec["linux"].update(
        sysctl={"net.ipv4.ip_unprivileged_port_start": "9", "kernel.shm_rmid_forced": "1"},
        maskedPaths=["/proc/keys"],
        readonlyPaths=["/proc/sys"],
        seccomp={"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]})
    spec["linux"]["resources"].update(memory={"limit": 64 * MIB, "reservation": 32 * MIB}, pids={"limit": 33},
                                      cpu={"quota": 90000, "period": 100000, "shares": 512})


def of_user():
    """What the init must read."""
    return ["Uid: 1000 1000 1000 1000", "Gid: 1001 1001 1001 1001", "Groups: 7 4242",
            # a program of no capabilities of its own, started by a user: what is ambient remains
            *[f"Cap{k}: {mask(CAPABILITIES['ambient'])}" for k in ("Inh", "Prm", "Eff", "Amb")],
            f"CapBnd: {mask(CAPABILITIES['bounding'])}", "NoNewPrivs: 1",
            "Max core file size 0 4096 bytes", "Max open files 111 222 files", "Max msgqueue size 5 6 bytes",
            "oom 321, port 9, shm 1, host name-of-it in /var, word word, init sh, masked yes"]


def of_root():
    """What an exec of uid 0 must read: its own, but for what is the container's."""
    return ["Uid: 0 0 0 0", "Gid: 0 0 0 0", "Groups: 9",
            *[f"Cap{k}: {mask(ROOTS['effective'])}" for k in ("Prm", "Eff", "Bnd")],
            *[f"Cap{k}: {mask([])}" for k in ("Inh", "Amb")], "NoNewPrivs: 0", "Max open files 55 66 files",
            "oom 321, port 9, shm 1, host name-of-it in /, word none, init sleep, masked yes"]


def of_both():
    return ["Seccomp: 2", "mkdir: can't create directory '/tmp/made': Operation not supported",
            "touch: /etc/new: Read-only file system",
            "/bin/sh: can't create /proc/sys/kernel/shm_rmid_forced: Read-only file system"]


def read_only(spec):
    ask(spec)
    spec["root"]["readonly"] = True


def check_lines(text, want, what):
    got = [" ".join(line.split()) for line in text.decode().splitlines()]
    check_equal([line for line in want if line not in got], [], f"{what}, which reads {got}; missing")


@each(["runc", "ours"], vm=True)
def as_config_json_asks(ctx, who):
    """The one is there to show that the questions are right."""
    made = {} if who == "ours" else {"shim": "foo", "bin_dir": stage.make_foo(os.path.join(lab.work_dir(), "runc"))}
    h = Hand(ctx, cmd=("/bin/sh", "-c", "exec 2>&1; " + READ + "exec sleep 100000"), spec=read_only, made=made)
    h.create["stdout"], init = h.output("init")
    h.create["stderr"], _ = h.output("init.err")  # runc's shim wants all or none
    with h:
        check_lines(read_all(init, b"end\n", 60), of_user() + of_both(), "the init")
        out, reader = h.output("exec")
        err, _ = h.output("exec.err")
        h.task.exec(h.id, "e", process("/bin/sh", "-c", "exec 2>&1; " + READ, user={"uid": 0, "gid": 0, "additionalGids": [9]}, capabilities=ROOTS,
                                       rlimits=[{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]), stdout=out, stderr=err)
        h.task.start(h.id, "e")
        check_lines(read_all(reader, b"end\n", 60), of_root() + of_both(), "an exec")
        h.task.wait(h.id, "e")
        h.task.delete(h.id, "e")
        if who == "ours":
            limits_in_the_guest(h)


def limits_in_the_guest(h):
    out, reader = h.output("limits")
    script = ("mount -t cgroup2 none /tmp && cd /tmp && "
              "for f in memory.max memory.low pids.max cpu.max cpu.weight; do echo $f $(cat $f); done; echo end")
    h.task.exec(h.id, "l", process("sh", "-c", script, capabilities=ROOTS), stdout=out)
    h.task.start(h.id, "l")
    check_lines(read_all(reader, b"end\n", 60),
                [f"memory.max {64 * MIB}", f"memory.low {32 * MIB}", "pids.max 33", "cpu.max 90000 100000", "cpu.weight 20"],
                "its cgroup")
    h.task.wait(h.id, "l")
    h.task.delete(h.id, "l")
