"""Go on with a run after a crash, from the last event that was acknowledged."""

import argparse

from cli._arguments import add_journal

COMPUTES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib resume`."""
    add = parser.add_argument
    add("run", metavar="RUN", help="a run's id or its beginning")
    add_journal(parser)
    add("--device", default=None, metavar="SPEC", help="where the robot is now (as the run began)")
    add("--audit", choices=("auto", "on", "off"), default="auto", help="PyMC audit at the end (auto: not with --json)")


def main(args: argparse.Namespace) -> int:
    """Fold the journal, write what a kill left unwritten, and run on. Saying `resume` is the operator's arming."""
    from calib.errors import UserError
    from calib.journal import open_journal
    from calib.registry import runners
    from calib.replay import events_of, fold, missing_documents, run_entries, setup_of
    from cli import _session
    from cli._terminal import Screen

    with open_journal(args.journal, create=False) as journal:
        run_entries(journal, args.run)  # a mistyped name must not make a journal
    with open_journal(args.journal) as journal:
        entries = run_entries(journal, args.run)
        journal.go_on_after(entries)
        run, start = entries[0].run, entries[0].body
        assert start is not None
        living = [e for e in runners() if e.run == run]
        if living:
            raise UserError(f"run {run}: is going on (pid {living[0].pid}); attach to it or stop it")
        simulated = start["person_model"] != "human"
        ended = any(e.type == "stop" for e in entries)
        if ended and (not simulated or any(e.type == "truth" for e in entries)):
            raise UserError(f"run {run}: has ended; `calib replay {run}` recomputes it, `calib run` begins another")
        spec = args.device or start["device_spec"]
        device = _session.device_of(spec)
        if device.rung != start["rung"]:
            raise UserError(
                f"--device: {spec} is a {device.rung}, the run began on a {start['rung']}; use the same rung"
            )
        setup = setup_of(start)
        person = _session.person_of(setup, start["person_model"], start["person"]) if simulated else None
        folded = fold(setup, start, events_of(entries), person)
        journal.append_many(run, [(r.type, r.body) for r in missing_documents(entries, folded)])
        plan = _session.Plan(
            run=run,
            setup=setup,
            device=device,
            journal=journal,
            journal_url=args.journal,
            person=person,
            number=start["person"],
            facts={"device_spec": spec} | {k: start[k] for k in ("kind", "rung", "person_model", "pace")},
            resumed=folded.session,
            audit=args.audit == "on" or (args.audit == "auto" and not args.json),
            json=args.json,
        )
        if ended:  # killed between its stop and its truth: nothing moves any more, only the end is written
            _session.complete(plan, folded.session, Screen(setup, quiet=args.json))
            return _session.exit_code(folded.session)
        return _session.conduct(plan)
