"""Starting a process that outlives the dashboard."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO


def launch(words: Sequence[str], out: IO[bytes], err: IO[bytes]) -> int:
    """Python with these words, in a session of its own: no Ctrl-C of the dashboard reaches it. Its pid; OSError."""
    process = subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
    )
    # Nobody else waits for it, and until somebody does it stays in the table of processes.
    threading.Thread(target=process.wait, daemon=True, name=f"reaper of {process.pid}").start()
    return process.pid
