"""List the journal's runs: who, on what, how it ended."""

import argparse

from cli._arguments import add_journal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib runs`."""
    add_journal(parser)


def main(args: argparse.Namespace) -> int:
    """Print every run, oldest first."""
    import json
    from dataclasses import asdict

    from calib.journal import open_journal

    with open_journal(args.journal, create=False) as journal:
        rows = [asdict(row) for row in journal.runs()]
    if args.json:
        print(json.dumps({"journal": args.journal, "runs": rows}))
        return 0
    if not rows:
        print("no runs yet: `calib run` makes one")
        return 0
    from cli._table import show

    columns = ("run", "started", "kind", "rung", "device", "scenario", "participant", "rounds", "documents", "state")
    # Seconds are enough for the eye.
    show(columns, [[row[name][:19] if name == "started" else row[name] for name in columns] for row in rows])
    return 0
