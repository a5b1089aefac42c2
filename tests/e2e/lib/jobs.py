"""Several labs at once: the same program once for each, taking tests from one list until it is empty."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

ENV_NUMBER, ENV_TAKEN = "BULKHEAD_JOB", "BULKHEAD_JOBS_TAKEN"


def is_one():
    """Whether this program is one of several."""
    return ENV_TAKEN in os.environ


def number():
    """0 when it is alone."""
    return int(os.environ.get(ENV_NUMBER, 0))


def _take():
    """The next number that nobody has taken."""
    with open(os.environ[ENV_TAKEN], "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        n = int(f.read())
        f.seek(0)
        f.write(str(n + 1))
    return n


def share(tests):
    """All of them, or those that fall to this one of several."""
    if not is_one():
        yield from tests
        return
    while (n := _take()) < len(tests):
        yield tests[n]


class _Sum:
    """Prints what the jobs print, a test's lines together, and adds up their last lines."""

    def __init__(self):
        self.lock, self.counts, self.sums = threading.Lock(), [0, 0, 0], 0

    def read(self, stream):
        block = []
        for line in stream:
            if block and not line.startswith(" "):
                self._print(block)
                block = []
            block.append(line)
        self._print(block)

    def _print(self, block):
        last = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped\n", "".join(block))
        with self.lock:
            if last:
                self.counts = [a + int(b) for a, b in zip(self.counts, last.groups())]
                self.sums += 1
            else:
                print("".join(block), end="", flush=True)


def run(count, n_tests):
    """Runs this program `count` times at once; prints what they do and one sum. The exit status."""
    total = _Sum()
    with tempfile.NamedTemporaryFile("w", prefix="bulkhead-jobs-") as taken:
        taken.write("0")
        taken.flush()
        jobs = [subprocess.Popen([sys.executable, *sys.argv], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, ENV_TAKEN: taken.name, ENV_NUMBER: str(i)})
                for i in range(1, count + 1)]
        signal.signal(signal.SIGTERM, lambda *_: [job.terminate() for job in jobs])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches the jobs from the terminal
        readers = [threading.Thread(target=total.read, args=(job.stdout,)) for job in jobs]
        for r in readers:
            r.start()
        status = [job.wait() for job in jobs]
        for r in readers:
            r.join()
    passed, failed, skipped = total.counts
    if total.sums < count or passed + failed + skipped != n_tests:
        print(f"FAIL jobs: {n_tests - passed - failed - skipped} tests were not run; the jobs' statuses: {status}")
        failed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or any(status) else 0
