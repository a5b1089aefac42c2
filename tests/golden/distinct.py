#!/usr/bin/env python3
"""No two command lines differ only in an identifier, a name or the number of an fd."""
import json
import pathlib
import re
import sys

# Keys whose values name an object, not say what it is.
NAMES = {"id", "netdev", "chardev", "bus", "drive", "memdev", "iothread", "node-name", "file", "rng",
         "opaque", "guest", "memory-backend", "name", "mem-path", "kernel", "initrd", "bios"}
FDS = {"fd", "fds", "vhostfds", "vhostfd", "set", "filename"}


def plain(key, value):
    if key in NAMES:
        return "NAME"
    if key in FDS:
        return ":".join("FD" for _ in str(value).split(":"))
    return value


def words(path):
    previous = ""
    for word in path.read_text().splitlines():
        if word.startswith("{"):
            word = json.dumps({k: plain(k, v) for k, v in json.loads(word).items()}, sort_keys=True)
        elif previous in ("-name", "-kernel", "-initrd", "-bios"):
            word = "NAME"
        elif previous in ("-chardev", "-add-fd", "-mon", "-machine"):
            word = re.sub(r"([a-z-]+)=([^,]*)", lambda m: f"{m[1]}={plain(m[1], m[2])}", word)
        previous = word
        yield word


def main():
    lines, seen, failed = sorted(pathlib.Path(sys.argv[1]).glob("*.txt")), {}, 0
    lines = [p for p in lines if not p.name.endswith(".classic.txt")]
    for path in lines:
        other = seen.setdefault(tuple(words(path)), path)
        if other is not path:
            print(f"FAIL     {path.name} and {other.name} differ in names only")
            failed += 1
    if len(lines) < 60:
        print(f"FAIL     only {len(lines)} command lines")
        failed += 1
    print(f"{len(lines) - failed} passed, {failed} failed, 0 skipped")
    return failed != 0


sys.exit(main())
