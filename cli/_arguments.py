"""Arguments that several commands share."""

import argparse

DEFAULT_JOURNAL = "sqlite:///./calib.db"


def add_journal(parser: argparse.ArgumentParser) -> None:
    """`--journal URL`."""
    parser.add_argument("--journal", metavar="URL", default=DEFAULT_JOURNAL, help="default: %(default)s")
