"""A small runner: functions marked @test, each with a deadline and a leak check around it."""

import fnmatch
import os
import signal
import sys
import time
import traceback

from . import jobs, leaks, proc

_tests = []


class Skip(Exception):
    """The test cannot run here; the text says why."""


class TestDeadline(BaseException):
    """Not an Exception: no handler in a test may swallow it."""


def test(deadline=120, vm=False, leaks=True):
    """vm: only for a shim that runs virtual machines. leaks: compare before and after."""
    def mark(function):
        function.deadline, function.vm, function.leaks = deadline, vm, leaks
        function.title = f"{function.__module__.replace('test_', '')}.{function.__name__}"
        _tests.append(function)
        return function
    return mark


def each(values, **options):
    """One test for each value, named function[value]."""
    def mark(function):
        for value in values:
            def one(ctx, value=value):
                return function(ctx, *value) if isinstance(value, tuple) else function(ctx, value)
            one.__name__ = f"{function.__name__}[{value[0] if isinstance(value, tuple) else value}]"
            one.__module__ = function.__module__
            test(**options)(one)
        return function
    return mark


def check(condition, message):
    if not condition:
        raise AssertionError(str(message))


def check_equal(got, want, what=""):
    if got != want:
        raise AssertionError(f"{what}: {got!r}, not {want!r}" if what else f"{got!r}, not {want!r}")


def check_contains(text, *words):
    for word in words:
        if word not in text:
            raise AssertionError(f"{word!r} is not in: {text.strip()!r}")


def _alarm(*_):
    raise TestDeadline()


def _sweep(baseline):
    """After a failed test: end what it started, so that the next one starts clean."""
    for (pid, started) in leaks._processes():
        if (pid, started) not in baseline.things and proc.start_time(pid) == started:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _run_one(function, ctx):
    before = leaks.Snapshot() if function.leaks else None
    signal.alarm(function.deadline * proc.patience)
    try:
        function(ctx)
        if before:
            leaks.assert_none(before)
    finally:
        signal.alarm(0)


def _matches(title, patterns):
    return not patterns or any(fnmatch.fnmatch(title, f"*{p}*") or p in title for p in patterns)


def titles(patterns=()):
    return [t.title for t in _tests if _matches(t.title, patterns)]


def main(ctx, patterns):
    """Runs what matches; prints one line for each and the sum. Returns the exit status."""
    passed = failed = skipped = 0
    signal.signal(signal.SIGALRM, _alarm)
    for function in jobs.share([t for t in _tests if _matches(t.title, patterns)]):
        began, baseline = time.monotonic(), leaks.Snapshot()
        mark, detail = "ok", ""
        ctx.begin()
        try:
            if function.vm and not ctx.is_vm:
                raise Skip("this shim runs no virtual machine")
            _run_one(function, ctx)
            passed += 1
        except Skip as e:
            mark, detail = "SKIP", str(e)
            skipped += 1
        except (Exception, TestDeadline) as e:
            failed += 1
            mark = "FAIL"
            if isinstance(e, TestDeadline):
                where = "".join(traceback.format_tb(e.__traceback__)[-3:])
                detail = f"deadline of {function.deadline * proc.patience} s passed at\n{where}"
            elif isinstance(e, (AssertionError, proc.Deadline)):
                line = traceback.extract_tb(e.__traceback__)
                at = next((f for f in reversed(line) if "/test_" in f.filename), line[-1])
                detail = f"{os.path.basename(at.filename)}:{at.lineno}: {e}"
            else:
                detail = traceback.format_exc()
        seconds = time.monotonic() - began
        print(f"{mark:<4} {function.title} ({seconds:.1f} s)" + (f": {detail}" if mark == "SKIP" else ""),
              flush=True)
        if mark == "FAIL":
            print("     " + detail.rstrip().replace("\n", "\n     "), flush=True)
            ctx.explain_failure()
            _sweep(baseline)
            ctx.recover()
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


def fail_hard(message):
    print(message, file=sys.stderr)
    sys.exit(2)
