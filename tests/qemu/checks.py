"""Beside reading back: fds, and texts."""
import os

from vm import same_file, tap_of

OF_QEMU = ("anon_inode:", "/memfd:", "pipe:", "/dev/shm/", "/dev/null")


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
            target = os.readlink(f"/proc/{vm.pid}/fd/{number}")
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


CHECKS = {}
