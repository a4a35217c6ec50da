"""Arguments that several commands share."""

import argparse
import os

DEFAULT_JOURNAL = "sqlite:///./calib.db"


def add_journal(parser: argparse.ArgumentParser) -> None:
    """`--journal URL`."""
    default = os.environ.get("CALIB_JOURNAL") or DEFAULT_JOURNAL
    # The default is not shown: it may hold a password.
    said = f"SQLite or PostgreSQL; default: $CALIB_JOURNAL, else {DEFAULT_JOURNAL}"
    parser.add_argument("--journal", metavar="URL", type=journal_url, default=default, help=said)


def journal_url(text: str) -> str:
    """A journal's URL without its password, which from here on is in the environment of this process alone."""
    if not text.startswith("postgresql"):
        return text
    from calib.journal_store import without_password

    return without_password(text)
