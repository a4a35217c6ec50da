"""Upgrade a journal's schema, with a backup, or verify its chains."""

import argparse

from cli._arguments import add_journal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib journal migrate|verify`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    migrate = actions.add_parser("migrate", help="bring an older journal up to date; the old one stays as a backup")
    verify = actions.add_parser("verify", help="check every entry against its chain; exit 1 when there is any problem")
    verify.add_argument("run", nargs="?", metavar="RUN", help="this run only")
    for action in (migrate, verify):
        add_journal(action)


def main(args: argparse.Namespace) -> int:
    """Do what `args.action` says."""
    return _migrate(args) if args.action == "migrate" else _verify(args)


def _migrate(args: argparse.Namespace) -> int:
    import json

    from calib.journal import migrate

    backup = migrate(args.journal)
    if args.json:
        print(json.dumps({"journal": args.journal, "migrated": backup is not None, "backup": backup and str(backup)}))
    elif backup is None:
        print("the journal is current: nothing to do")
    else:
        print(f"the journal is up to date now; as it was before: {backup}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    import json

    from calib.errors import UserError
    from calib.journal import open_journal

    with open_journal(args.journal, create=False) as journal:
        listed = [row.run for row in journal.runs()]
        if args.run is not None and args.run not in listed:
            raise UserError(f"no run {args.run} in {args.journal}: `calib runs` lists them")
        chosen = listed if args.run is None else [args.run]
        problems = [problem for run in chosen for problem in journal.verify(run)]
    if args.json:
        print(json.dumps({"journal": args.journal, "runs": len(chosen), "problems": problems}))
    else:
        print("\n".join(problems) or f"{len(chosen)} runs: every entry is as it was written")
    return 1 if problems else 0
