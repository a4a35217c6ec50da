"""Several processes and sudden death: what was acknowledged is there, and the chains hold."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from calib.journal import open_journal

ROOT = Path(__file__).parent.parent
# Prints each number only after the append has returned; line by line, as a runner would acknowledge.
WRITER = """
import os, sys
from calib.journal import open_journal
url, run, count = sys.argv[1:]
with open_journal(url) as journal:
    for n in range(int(count)):
        seq = journal.append(run, "round", {"n": n, "x": [0.1] * 50})
        os.write(1, b"%d\\n" % seq)
"""


def writer(url: str, run: str, count: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WRITER, url, run, str(count)], cwd=ROOT, stdout=subprocess.PIPE)


def test_kill_9_loses_no_acknowledged_entry(tmp_path):
    url = f"sqlite:///{tmp_path}/calib.db"
    rng = random.Random(7)
    acknowledged = 0
    for _ in range(10):
        child = writer(url, "r1", 10**9)
        assert child.stdout is not None
        first = child.stdout.readline()  # it is in its loop now
        assert int(first) >= acknowledged
        time.sleep(rng.uniform(0.0, 0.06))
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")  # the last piece may be a torn number
        child.wait()
        child.stdout.close()
        acknowledged = int(([first.strip(), *rest[:-1]])[-1]) + 1
        with open_journal(url, create=False) as journal:
            read = journal.entries("r1")
            # One more may have been written and not yet told.
            assert len(read) in (acknowledged, acknowledged + 1)
            assert [entry.seq for entry in read] == list(range(len(read)))
            assert journal.verify("r1") == []
        acknowledged = len(read)
    assert acknowledged > 20


def test_two_runners_create_and_write_one_journal(tmp_path):
    url = f"sqlite:///{tmp_path}/calib.db"
    children = [writer(url, run, 150) for run in ("r1", "r2")]
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        assert out.split() == [b"%d" % n for n in range(150)]
    with open_journal(url, create=False) as journal:
        assert [(row.run, row.documents) for row in sorted(journal.runs(), key=lambda row: row.run)] == [
            ("r1", 150),
            ("r2", 150),
        ]
        assert journal.verify("r1") == journal.verify("r2") == []


def test_many_threads_share_a_journal(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with open_journal(f"sqlite:///{tmp_path}/calib.db") as journal:
        with ThreadPoolExecutor(4) as pool:
            seqs = list(pool.map(lambda n: journal.append("r1", "event", {"n": n}), range(80)))
        assert sorted(seqs) == list(range(80))
        assert journal.verify("r1") == []
