"""What runs the guest's CPUs: configuration, this host's KVM, and what the log says of it."""

import contextlib
import fcntl
import os
import re

from lib import proc
from lib.proc import run
from lib.runner import check, check_contains, check_equal, test
from lib.shim import HandMade

KVM_GET_API_VERSION, KVM_API_VERSION = 0xAE00, 12


def kvm_answers():
    try:
        with open("/dev/kvm", "r+b", buffering=0) as f:
            return fcntl.ioctl(f, KVM_GET_API_VERSION, 0) == KVM_API_VERSION
    except OSError:
        return False


def has_module():
    return any(os.path.exists(f"/sys/module/{name}") for name in ("kvm_intel", "kvm_amd"))


@contextlib.contextmanager
def mounted(*args):
    """In the lab alone, as long as the body runs."""
    run(["mount", *args], check=True)
    try:
        yield
    finally:
        run(["umount", args[-1]], check=True)


def said(ctx, accel):
    """The log's line of a sandbox that was started with this setting."""
    with HandMade(ctx.containerd, ctx.new_id(), bin_dir=ctx.other_prefix(accel=accel)) as h:
        h.start()
        proc.wait_until(lambda: "accel=" in h.log(), 10, "the log says what runs the CPUs")
        h.delete()
        lines = re.findall(r'msg="(accel=[^"]*)"', h.log())
    check_equal(len(lines), 1, "lines that say it")
    return lines[0]


@test(vm=True)
def auto_is_kvm_only_where_it_is_the_processors(ctx):
    line = said(ctx, "auto")
    if has_module() and kvm_answers():
        check_equal(line, "accel=kvm")
    else:
        check(re.match("accel=tcg: (neither kvm_intel nor kvm_amd is loaded|/dev/kvm.*)$", line), line)


@test(vm=True)
def auto_without_the_processors_module_is_tcg(ctx):
    """Whatever /dev/kvm says."""
    with mounted("-t", "tmpfs", "modules", "/sys/module"):
        check_equal(said(ctx, "auto"), "accel=tcg: neither kvm_intel nor kvm_amd is loaded")


@test(vm=True)
def auto_with_a_device_that_is_not_kvm_is_tcg(ctx):
    with without_kvm(), mounted("-t", "tmpfs", "modules", "/sys/module"):
        os.mkdir("/sys/module/kvm_amd")
        check(said(ctx, "auto").startswith("accel=tcg: /dev/kvm"), "the reason is the device")


@test(vm=True)
def tcg_is_tcg(ctx):
    check_equal(said(ctx, "tcg"), "accel=tcg")


def without_kvm():
    if os.path.exists("/dev/kvm"):
        return mounted("--bind", "/dev/null", "/dev/kvm")
    return contextlib.nullcontext()


@test(vm=True)
def kvm_where_there_is_none_is_one_clear_sentence(ctx):
    with without_kvm(), HandMade(ctx.containerd, ctx.new_id(),
                                 bin_dir=ctx.other_prefix(accel="kvm")) as h:
        result = h.start_raw()
        check_equal((result.code, result.out), (1, b""), result)
        check_contains(result.errtext, "accel=kvm: /dev/kvm")
        check_equal(len(result.errtext.splitlines()), 1, "lines")
