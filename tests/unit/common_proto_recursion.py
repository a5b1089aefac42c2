#!/usr/bin/env python3
"""No message of any .proto file may contain itself, directly or through others:
protobuf-c unpacks by recursion, and 58 KB of nesting would overflow its stack."""
import pathlib
import re
import sys

FIELD = re.compile(r"^(?:repeated\s+|optional\s+)?(?:map\s*<\s*\w+\s*,\s*([\w.]+)\s*>|([\w.]+))\s+\w+\s*=\s*\d+")
OPEN = re.compile(r"^(message|enum|oneof|service|extend)\s+([\w.]+)\s*\{")
SCALARS = set("double float int32 int64 uint32 uint64 sint32 sint64 fixed32 fixed64 sfixed32 "
              "sfixed64 bool string bytes".split())


def statements(text):
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.S)
    for part in re.findall(r"[^;{}]*[;{}]", text):
        yield " ".join(part.split())


def read(path, messages):
    """Adds full name -> [(scope, type)] of every message of the file."""
    package, stack = "", []
    for s in statements(path.read_text()):
        if m := re.match(r"^package\s+([\w.]+)", s):
            package = m[1]
        elif m := OPEN.match(s):
            stack.append((m[1], m[2]))
            if m[1] == "message":
                messages["." + ".".join([package] + [n for k, n in stack if k == "message"])] = []
        elif s.endswith("{"):
            stack.append(("other", ""))
        elif s.startswith("}") or s == "}":
            stack.pop()
        elif any(k == "message" for k, _ in stack) and all(k != "enum" for k, _ in stack):
            m = FIELD.match(s)
            kind = m and (m[1] or m[2])
            if kind and kind not in SCALARS:
                scope = "." + ".".join([package] + [n for k, n in stack if k == "message"])
                messages[scope].append((scope, kind))


def resolve(scope, kind, messages):
    """As protoc does: from the innermost scope outwards. None: an enum."""
    while scope:
        if f"{scope}.{kind}" in messages:
            return f"{scope}.{kind}"
        scope = scope.rpartition(".")[0]
    return f".{kind}" if f".{kind}" in messages else None


def find_cycle(name, messages, path):
    if name in path:
        return path[path.index(name):] + [name]
    for scope, kind in messages[name]:
        inner = resolve(scope, kind, messages)
        cycle = find_cycle(inner, messages, path + [name]) if inner else None
        if cycle:
            return cycle
    return None


def check(files):
    messages = {}
    for f in files:
        read(f, messages)
    cycles = [c for c in (find_cycle(m, messages, []) for m in messages) if c]
    return messages, cycles


def self_test(tmp):
    tmp.write_text('package p; message A { message B { repeated A up = 1; } map<string, B> b = 1; }')
    messages, cycles = check([tmp])
    assert len(messages) == 2 and cycles, "a cycle is not found"


def main():
    root = pathlib.Path(sys.argv[1])
    self_test(pathlib.Path(sys.argv[2]) / "recursive.proto")
    files = [f for f in sorted(root.glob("*/**/*.proto")) if "build" not in f.relative_to(root).parts]
    messages, cycles = check(files)
    assert len(files) > 5 and len(messages) > 100, "the schemas were not found"
    for c in cycles:
        print("contains itself:", " -> ".join(c))
    print(f"{len(messages)} messages in {len(files)} files")
    return bool(cycles)


sys.exit(main())
