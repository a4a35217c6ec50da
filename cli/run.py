"""Run one calibration session: a person, a robot, and the machine inferring what the person means."""

import argparse
import os
from pathlib import Path

from calib.policies import policy_names
from cli._arguments import add_journal

_MAX_ROUNDS = 10_000  # the evidence of all rounds is laid out at the start


COMPUTES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib run`."""
    add = parser.add_argument
    add(
        "scenario",
        nargs="?",
        default="apartment",
        metavar="SCENARIO",
        help="a TOML file, or apartment, arena or beliefs, which come with the lab (apartment)",
    )
    add("--device", default="simvac", metavar="SPEC", help="simvac, neato:emulator, roomba:/dev/ttyUSB0, ... (simvac)")
    add(
        "--person",
        default="rational",
        metavar="SPEC",
        help="human, or a person model: rational,rationality=8 (rational)",
    )
    add("--person-number", type=int, default=0, metavar="N", help="which simulated person of the population (0)")
    add(
        "--role",
        default="advisor",
        metavar="NAME",
        help="tool: the person sets; advisor: the machine proposes (advisor)",
    )
    add(
        "--policy",
        default="information_gain",
        metavar="NAME",
        help=f"which question to ask: {', '.join(policy_names())} (information_gain)",
    )
    add("--engine", default=None, metavar="NAME", help="live, or full, which infers the mental model (the scenario's)")
    add("--rounds", type=int, default=None, metavar="N", help="at most so many rounds (the scenario's)")
    add(
        "--until",
        default=None,
        metavar="RULE",
        help="max_rounds, accepted or declared (human: accepted, else max_rounds)",
    )
    add("--seed", type=int, default=0, metavar="N", help="root of every random stream (0)")
    add_journal(parser)
    add("--kind", choices=("human", "pilot", "simulated"), default=None, help="what the record says of the person")
    add("--participant", metavar="PSEUDONYM", default=None, help="who this is, enrolled with `calib participant enrol`")
    add("--audit", choices=("auto", "on", "off"), default="auto", help="PyMC audit at the end (auto: not with --json)")
    add("--traffic", default=None, metavar="FOLDER", help="write down every byte to and from the robot, a log a port")
    add(
        "--pace",
        default=None,
        metavar="RULE",
        help="clock of a simulated world: virtual (as fast as it goes), wall, or so many times faster: 30 "
        "(human: wall, else virtual)",
    )


def main(args: argparse.Namespace) -> int:
    """One session from its first question to its summary."""
    from calib.calibration import refuse_missed_floors
    from calib.engines import load_engine
    from calib.errors import UserError
    from calib.journal import open_journal
    from calib.scenario import load_scenario
    from calib.setup import make_setup
    from cli import _session

    if args.rounds is not None and args.rounds > _MAX_ROUNDS:
        raise UserError(f"--rounds: {args.rounds} is too many; give at most {_MAX_ROUNDS}")
    human = args.person == "human"
    stop_rule = args.until or ("accepted" if human else "max_rounds")
    if args.traffic:
        os.environ["CALIB_TRAFFIC"] = str(Path(args.traffic).absolute())  # the guards that hold ports read it
    device = _session.device_of(args.device)
    scenario = load_scenario(args.scenario)
    setup = make_setup(
        scenario,
        role=args.role,
        policy=args.policy,
        stop_rule=stop_rule,
        max_rounds=args.rounds,
        seed=args.seed,
        engine=args.engine,
    )
    refuse_missed_floors(scenario, setup.map.z)
    if load_engine(setup.engine).EVIDENCE is None:
        raise UserError(f"--engine: {setup.engine} is for populations and keeps no answers; choose live or full")
    kind = _session.kind_of(args.kind, human, args.participant)
    person = None if human else _session.person_of(setup, args.person, args.person_number)
    pace = args.pace or ("wall" if human or device.rung == "hardware" else "virtual")
    _session.rate_of(pace, device.rung)
    if device.rung == "hardware" and not scenario.protocol.ready:
        raise UserError(
            f"{scenario.name}: has protocol.ready = false, and a real robot waits for an operator; take arena, or true"
        )
    with open_journal(args.journal) as journal:
        facts = {
            "kind": kind,
            "rung": device.rung,
            "device": args.device.partition(":")[0],
            "device_spec": args.device,
            "person_model": args.person,
            "pace": pace,
            **_session.consent(journal, kind, args.participant),
            **_session.provenance(setup),
        }
        return _session.conduct(
            _session.Plan(
                run=_session.new_run_id(),
                setup=setup,
                device=device,
                journal=journal,
                journal_url=args.journal,
                person=person,
                number=args.person_number,
                facts=facts,
                resumed=None,
                audit=args.audit == "on" or (args.audit == "auto" and not args.json),
                json=args.json,
            )
        )
