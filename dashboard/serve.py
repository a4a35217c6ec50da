"""Serves the dashboard on this machine: `python -m dashboard.serve [--port N]`, what `make dashboard` calls.

Prints the address with its token, one a start; nobody without it gets a page. The runs that pages start are
processes of their own and outlive this one.
"""

import argparse
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from calib.errors import UserError
from calib.registry import locked, registry_folder

APP = Path(__file__).resolve().parent.parent / "app.py"
_PORTS_TO_TRY = 20


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--port", type=int, default=None, metavar="N", help="of 127.0.0.1 (the first free from 8501)")
    args = parser.parse_args()
    starting = ExitStack()  # until it listens: of two that start at once each finds a port of its own
    try:
        folder = registry_folder() / "dashboards"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        starting.enter_context(locked(folder))
    except (OSError, UserError) as error:
        print(f"dashboard: {error}", file=sys.stderr)
        return 2
    port = free_port(args.port)
    if port is None:
        print(f"dashboard: port {args.port or 8501} is taken or cannot be had; give another --port", file=sys.stderr)
        return 2
    token = os.environ.pop("CALIB_DASHBOARD_TOKEN", "") or secrets.token_urlsafe(24)
    import streamlit as st
    from starlette.middleware import Middleware
    from streamlit.runtime.pages_manager import PagesManager

    from dashboard.guard import Guard

    # Until app.py has run once Streamlit takes pages/ for its older kind of app, and a deep link would miss app.py.
    PagesManager.uses_pages_directory = False

    app = st.App(APP, middleware=[Middleware(Guard, token=token, port=port)])
    threading.Thread(target=_announce, args=(port, token, starting), daemon=True, name="announce").start()
    # The page says so where it was opened without the guard.
    os.environ["CALIB_GUARDED"] = "1"
    app.run(
        config={
            "server.port": port,
            "server.address": "127.0.0.1",
            "server.headless": True,
            "logger.hideWelcomeMessage": True,
        }
    )
    return 0


def _announce(port: int, token: str, starting: ExitStack) -> None:
    """Print the address once somebody answers there, and let the next one start."""
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            print(f"Dashboard: http://127.0.0.1:{port}/?token={token}", flush=True)
            starting.close()
            return
        time.sleep(0.1)


def free_port(wanted: int | None) -> int | None:
    """The wanted port if it can be had, or the first free one from 8501."""
    for port in [wanted] if wanted is not None else range(8501, 8501 + _PORTS_TO_TRY):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
            except (OSError, OverflowError):
                continue
    return None


if __name__ == "__main__":
    sys.exit(main())
