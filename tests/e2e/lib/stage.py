"""Prefixes: a copy of the installed tree with a configuration of its own.

The shim finds <prefix>/etc/bulkhead/bulkhead.conf from the path of its own binary, so each
test that wants other settings gets another prefix. Hard links where the file system allows
it: a symbolic link would lead the shim back to the original.
"""

import os
import shutil
import subprocess


def _link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def make(stage, prefix, **settings):
    """Copies stage to prefix and writes its configuration; returns <prefix>/bin.

    A setting given as a list is written once for each item.
    """
    for part in ("bin", "libexec", "share"):
        source = os.path.join(stage, part)
        if os.path.isdir(source):
            shutil.copytree(source, os.path.join(prefix, part), copy_function=_link_or_copy,
                            dirs_exist_ok=True)
    os.makedirs(os.path.join(prefix, "etc/bulkhead"), exist_ok=True)
    with open(os.path.join(prefix, "etc/bulkhead/bulkhead.conf"), "w") as f:
        for key, value in settings.items():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                f.write(f"{key}={item}\n")
    return os.path.join(prefix, "bin")


def add_tracer(prefix, tracer, **settings):
    """Puts tests/faults/tracer in front of the shim; trace() changes what it does."""
    shim = os.path.join(prefix, "bin/containerd-shim-bulkhead-v2")
    os.rename(shim, shim + ".real")
    _link_or_copy(tracer, shim)
    trace(prefix, **settings)


def trace(prefix, **settings):
    """What the tracer does from the next `start` on; its keys are in tests/faults/tracer.c."""
    with open(os.path.join(prefix, "etc/bulkhead/trace"), "w") as f:
        f.writelines(f"{key}={value}\n" for key, value in settings.items())


def make_foo(prefix):
    """containerd's own runc shim under a foreign name: what the tests themselves are tried with."""
    os.makedirs(os.path.join(prefix, "bin"), exist_ok=True)
    shim = shutil.which("containerd-shim-runc-v2")
    if not shim:
        raise AssertionError("containerd-shim-runc-v2 is not installed (package containerd)")
    shutil.copy2(shim, os.path.join(prefix, "bin/containerd-shim-foo-v2"))
    return os.path.join(prefix, "bin")


def installed(stage):
    return os.access(os.path.join(stage, "bin/containerd-shim-bulkhead-v2"), os.X_OK)


def qemu_version():
    out = subprocess.run(["qemu-system-x86_64", "-version"], capture_output=True, text=True)
    return out.stdout.splitlines()[0] if out.returncode == 0 else "no QEMU"
