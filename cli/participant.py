"""Enrol a participant; list them; take a person's data out; erase a person."""

import argparse
from typing import TYPE_CHECKING

from cli._arguments import add_journal

if TYPE_CHECKING:
    from calib.journal import Journal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib participant enrol|list|export|erase`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    enrol = actions.add_parser("enrol", help="note a person's consent under a pseudonym")
    listing = actions.add_parser("list", help="everyone enrolled, without names")
    export = actions.add_parser("export", help="everything held about a person, as JSON on standard output")
    erase = actions.add_parser("erase", help="erase a person for good; tombstones keep the journal valid")
    for action in (enrol, export, erase):
        action.add_argument("id", metavar="ID", help="the pseudonym")
    enrol.add_argument("--consent", metavar="VERSION", required=True, help="the consent form that was signed")
    enrol.add_argument("--name", help="kept apart from the sessions, gone with `erase`")
    erase.add_argument(
        "--reason", default="asked by the participant", help="stays in the tombstone; default: %(default)s"
    )
    for action in (enrol, listing, export, erase):
        add_journal(action)


def main(args: argparse.Namespace) -> int:
    """Do what `args.action` says."""
    import json

    from calib.journal import open_journal
    from calib.participants import enrol, export_participant

    with open_journal(args.journal, create=args.action == "enrol") as journal:
        if args.action == "list":
            return _list(args, journal)
        if args.action == "erase":
            return _erase(args, journal)
        if args.action == "export":
            print(json.dumps(export_participant(journal, args.id), indent=None if args.json else 2))
            return 0
        enrol(journal, args.id, args.consent, args.name)
    if args.json:
        print(json.dumps({"participant": args.id, "consent_version": args.consent}))
    else:
        print(f"participant {args.id} is enrolled with consent {args.consent}")
    return 0


def _list(args: argparse.Namespace, journal: "Journal") -> int:
    import json
    from dataclasses import asdict

    from calib.participants import list_participants
    from cli._table import show

    people = [asdict(person) for person in list_participants(journal)]
    if args.json:
        print(json.dumps({"journal": args.journal, "participants": people}))
    elif people:
        show(list(people[0]), [list(person.values()) for person in people])
    else:
        print("nobody is enrolled: `calib participant enrol ID --consent VERSION`")
    return 0


def _erase(args: argparse.Namespace, journal: "Journal") -> int:
    import json
    import sys
    from dataclasses import asdict

    from calib.participants import erase_participant

    done = erase_participant(journal, args.id, args.reason)
    if args.json:
        print(json.dumps(asdict(done), default=str))
    elif done.already is not None:
        print(f"participant {args.id} was erased on {done.already}: nothing more to erase")
    else:
        print(f"participant {args.id} is erased: {done.entries} documents of {done.runs} runs, {done.names} name")
    if done.backups:
        copies = ", ".join(map(str, done.backups))
        print(
            f"older backups may still hold this person: delete them when you can do without: {copies}", file=sys.stderr
        )
    return 0
