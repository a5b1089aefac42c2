#!/usr/bin/env python3
"""Every attack case of tests/proc/README.md names tests that are there, or says why there is none,
and every channel has a neighbour that is taken over."""
import pathlib
import re
import sys

CASES = [f"A{i}" for i in range(1, 13)] + [f"B{i}" for i in range(1, 17)] + [f"C{i}" for i in range(1, 14)]
CASES += ["D1", "D2", "D5", "D6", "D7"] + [f"E{i}" for i in (*range(1, 6), *range(7, 14), *range(15, 20))]
CASES += ["F1", "F2", "F8", "G8", "J1", "J2", "J4"]
ROW = re.compile(r"^\| ([A-J]\d+) \|(.*)\|(.*)\|$", re.M)
NAMED = re.compile(r"`([\w.]+): (\w+)`")
EXCUSES = ("does not apply", "does not exist", "not shown yet")


def defined(text):
    """Tests, tables and functions of a C or Python file."""
    names = set(re.findall(r"\bTEST ?\((\w+)\)", text))
    for prefix in re.findall(r"^\s*HOSTILE_TESTS\((\w+),", text, re.M) + re.findall(r"^TARGET\((\w+),", text, re.M):
        names |= {f"{prefix}_{group}" for group in ("valid", "framing", "kinds", "fds", "payloads")}
    names |= set(re.findall(r"^(?:static |\}).*?\b(\w+)(?:\[\])? ?[=(]", text, re.M))
    return names | set(re.findall(r"^def (\w+)\(", text, re.M))


def check_list(readme, files):
    found = {case: rest for case, _, rest in ROW.findall(readme)}
    wrong = [f"{case} is not in the list" for case in CASES if case not in found]
    wrong += [f"{case} is no case" for case in found if case not in CASES]
    for case, rest in found.items():
        named = NAMED.findall(rest)
        if not named and not any(e in rest for e in EXCUSES):
            wrong.append(f"{case}: neither a test nor a reason")
        wrong += [f"{case}: {f} has no {name}" for f, name in named if name not in files.get(f, ())]
    return wrong


def check_channels(tables, texts):
    channels = re.findall(r"^TABLE\((\w+),", tables, re.M)
    attacked = {f"frontend_{peer}" for t in texts for peer in re.findall(r"^TARGET\((\w+),", t, re.M)}
    targets = [c for t in texts for c in re.findall(r"\.channel = &ipc_(\w+),", t)]
    wrong = [] if len(channels) > 5 else ["the tables were not found"]
    for c in channels:
        if c not in targets or (c.startswith("frontend_") and c not in attacked):
            wrong.append(f"channel {c} is not attacked from both ends")
    return wrong


def self_test():
    files = {"a.c": defined("TEST(one)\n{\n}\nstatic const struct x two[] = {\n")}
    good = "\n".join(f"| {c} | x | `a.c: one`, `a.c: two` |" for c in CASES)
    assert not check_list(good, files)
    assert check_list(good.replace("a.c: two", "a.c: three", 1), files)
    assert check_list(good.replace("`a.c: one`, `a.c: two`", "surely", 1), files)
    for row in good.splitlines():  # none may be missing
        assert check_list(good.replace(row, ""), files)
    assert not check_list(good + "\n| E7 | x | `a.c: one` |", files)
    assert check_list(good + "\n| E7 | x | surely |", files)
    assert check_list(good + "\n| J9 | x | `a.c: one` |", files)
    assert check_channels("TABLE(frontend_x, 1)\n" * 6, [".channel = &ipc_frontend_x,"])


def main():
    root = pathlib.Path(sys.argv[1]) / "tests"
    self_test()
    paths = [p for tier in ("unit", "golden", "qemu", "proc", "flow", "e2e") for p in (root / tier).iterdir() if p.suffix in (".c", ".py")]
    files = {}
    for p in paths:
        files[p.name] = files.get(p.name, set()) | defined(p.read_text())
    wrong = check_list((root / "proc" / "README.md").read_text(), files)
    wrong += check_channels((root.parent / "ipc" / "tables.c").read_text(),
                            [p.read_text() for p in paths if p.name.startswith("hostile_")])
    for w in wrong:
        print(w)
    print(f"{len(CASES)} cases")
    return bool(wrong)


sys.exit(main())
