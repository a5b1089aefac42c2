"""OCI images made of busybox: the same inputs give the same bytes."""

import hashlib
import io
import json
import os
import subprocess
import tarfile

BUSYBOX = "docker.io/library/busybox:test"
LAYERS = "docker.io/library/layers:test"
OWNERS = "docker.io/library/owners:test"


def _entry(name, mode, uid=0, gid=0):
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.mtime = mode, uid, gid, 0
    return info


class Layer:
    """One layer's tar, filled in the order of the calls."""

    def __init__(self):
        self._buf = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buf, mode="w", format=tarfile.PAX_FORMAT)

    def directory(self, name, mode=0o755, uid=0, gid=0):
        info = _entry(name, mode, uid, gid)
        info.type = tarfile.DIRTYPE
        self._tar.addfile(info)
        return self

    def file(self, name, data=b"", mode=0o644, uid=0, gid=0):
        info = _entry(name, mode, uid, gid)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))
        return self

    def symlink(self, name, target):
        info = _entry(name, 0o777)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(info)
        return self

    def done(self):
        self._tar.close()
        return self._buf.getvalue()


def busybox_path():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            return os.path.realpath(path)
    raise AssertionError("busybox is not installed (package busybox-static)")


def busybox_layer():
    layer = Layer()
    for d in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var"):
        layer.directory(d, 0o1777 if d == "tmp" else 0o755)
    with open(busybox_path(), "rb") as f:
        layer.file("bin/busybox", f.read(), 0o755)
    applets = subprocess.run([busybox_path(), "--list"], capture_output=True, text=True, check=True)
    for name in sorted(set(applets.stdout.split()) - {"busybox"}):
        layer.symlink(f"bin/{name}", "busybox")
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    layer.file("etc/group", b"root:x:0:\nuser:x:1000:\n")
    return layer.done()


def _blob(blobs, data):
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return f"sha256:{digest}"


def write_image(path, name, layers, cmd=("/bin/sh",)):
    """An OCI layout in one tar, as `ctr image import` takes it. layers: bytes of plain tars."""
    blobs = {}
    layer_digests = [_blob(blobs, l) for l in layers]
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": list(cmd), "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": layer_digests},
    }, sort_keys=True).encode()
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": _blob(blobs, config), "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": d,
                    "size": len(l)} for d, l in zip(layer_digests, layers)],
    }, sort_keys=True).encode()
    index = json.dumps({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "digest": _blob(blobs, manifest), "size": len(manifest),
                       "platform": {"architecture": "amd64", "os": "linux"},
                       "annotations": {"io.containerd.image.name": name}}],
    }, sort_keys=True).encode()

    out = Layer()
    out.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    out.file("index.json", index)
    for digest in sorted(blobs):
        out.file(f"blobs/sha256/{digest}", blobs[digest])
    with open(path, "wb") as f:
        f.write(out.done())
    return path


def write_busybox(path):
    return write_image(path, BUSYBOX, [busybox_layer()])


def write_layers(path, count=40):
    """Each layer adds a file of its own and replaces the one all have."""
    layers = [busybox_layer()]
    for i in range(1, count):
        layers.append(Layer().directory("layers")
                      .file(f"layers/{i}", f"{i}\n".encode())
                      .file("layers/last", f"{i}\n".encode()).done())
    return write_image(path, LAYERS, layers)


def write_owners(path):
    layer = Layer().directory("owned", 0o1777)
    for uid in (0, 33, 1000):
        layer.file(f"owned/u{uid}", f"{uid}\n".encode(), 0o640, uid, uid)
    layer.file("owned/setuid", b"#!/bin/sh\n", 0o4755, 1000, 33)
    layer.directory("owned/sticky", 0o2770, 33, 1000)
    return write_image(path, OWNERS, [busybox_layer(), layer.done()])


def unpack_busybox(directory):
    """A plain directory with the same content, for bundles made by hand."""
    os.makedirs(directory, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(busybox_layer())) as tar:
        tar.extractall(directory, numeric_owner=True)
    return directory
