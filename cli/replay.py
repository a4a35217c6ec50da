"""Recompute a run from its journal and compare every number."""

import argparse

from cli._arguments import add_journal

COMPUTES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib replay`."""
    parser.add_argument("run", metavar="RUN", help="a run's id or its beginning")
    add_journal(parser)


def main(args: argparse.Namespace) -> int:
    """Print the differences; exit 1 when there is any."""
    import json

    from calib.journal import open_journal
    from calib.replay import differences, events_of, fold, recorded_actions, run_entries, setup_of

    with open_journal(args.journal, create=False) as journal:
        entries = run_entries(journal, args.run)
    start = entries[0].body
    assert start is not None
    setup = setup_of(start)
    folded = fold(setup, start, events_of(entries), forced=recorded_actions(entries))
    found = differences(entries, folded)
    if args.json:
        print(json.dumps({"run": entries[0].run, "documents": len(folded.documents), "differences": found}))
    else:
        print(f"run {entries[0].run}: {len(folded.documents)} documents recomputed, {len(found)} differences")
        for d in found[:20]:
            print(f"  document {d['document']}, {d['path']}: recorded {d['recorded']}, replayed {d['replayed']}")
    return 1 if found else 0
