"""The peers' environments: one folder each under the cache, made when first needed and when a pin changes."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from calib.outcomes import cache_folder


class Peer(NamedTuple):
    """A peer: what pip installs for it, and the module under bench/peers that drives it, "" where none does."""

    name: str
    requirements: tuple[str, ...]
    module: str


PEERS = {
    peer.name: peer
    for peer in (
        # numpy 1.24 removed the np.int that it uses
        Peer("adopy", ("adopy==0.4.1", "numpy==1.23.5", "scipy==1.10.1", "pandas==1.5.3"), "with_adopy"),
        Peer("botorch", ("botorch==0.18.1", "gpytorch==1.15.2", "torch==2.13.0", "numpy==2.4.6"), "with_botorch"),
        Peer("aprel", ("aprel==1.0.0",), ""),
    )
}


class NotInstalled(Exception):
    """Its message is pip's line about it."""


def python_of(peer: Peer) -> Path:
    """The Python of the peer's environment, which is made now where it is not there. NotInstalled if pip refuses."""
    folder = cache_folder() / "peers" / peer.name
    wanted = hashlib.sha256("\n".join((sys.version, *peer.requirements)).encode()).hexdigest()
    mark, python = folder / "installed", folder / "bin" / "python"
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"installing {', '.join(peer.requirements)} in {folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    installing = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    if installing.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        lines = [line for line in installing.stderr.splitlines() if line.startswith("ERROR: ")]
        raise NotInstalled(lines[-1] if lines else f"pip ended with {installing.returncode}")
    mark.write_text(wanted)
    return python
