"""What `calib run` and `calib resume` share: the parts of a session, its signals, its end."""

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from calib.errors import JournalError, UserError
from calib.journal import Journal
from calib.left_open import close_left_open
from calib.provenance import code_sha256, platform_fingerprint
from calib.registry import RunnerEntry, register, unregister
from calib.runner import Run, Runner
from calib.session import Session
from calib.setup import Setup
from calib.summary import summarise
from cli import _terminal
from devices.catalog import make_device
from devices.device import Device
from experiments.live_person import SimulatedPerson, make_person, truth_document
from experiments.people import load_person


@dataclass(frozen=True)
class Plan:
    """Everything that a session needs, found and checked before anything moves."""

    run: str
    setup: Setup
    device: Device
    journal: Journal
    journal_url: str
    person: SimulatedPerson | None
    number: int
    facts: dict[str, Any]
    resumed: Session | None
    audit: bool
    json: bool


def device_of(spec: str) -> Device:
    """The device of a SPEC; UserError where there is none."""
    try:
        return make_device(spec)
    except ValueError as error:
        raise UserError(f"--device: {error}") from None


def person_of(setup: Setup, spec: str, number: int) -> SimulatedPerson:
    """The simulated person of a SPEC."""
    if number < 0:
        raise UserError(f"--person-number: {number} is negative; give 0 or more")
    if number >= 2**63:
        raise UserError(f"--person-number: {number} is too large; give less than 2**63")
    model, parameters = load_person(spec)
    return make_person(setup, model, parameters, number)


def kind_of(kind: str | None, human: bool, participant: str | None) -> str:
    """What the record says of the person; a human's data need consent, a simulation is never called human."""
    kind = kind or ("human" if human and participant else "pilot" if human else "simulated")
    if (kind == "simulated") == human:
        raise UserError(f"--kind: {kind} does not fit --person; human and pilot go with --person human")
    if kind == "human" and not participant:
        raise UserError(
            "--kind human needs --participant PSEUDONYM, enrolled by `calib participant enrol ID --consent V`"
        )
    return kind


def rate_of(pace: str, rung: str) -> float | None:
    """Robot seconds a second of the clock, None for virtual time."""
    if pace == "virtual" and rung != "hardware":
        return None
    try:
        rate = 1.0 if pace == "wall" else float(pace)
    except ValueError:
        rate = 0.0
    if not 1.0 <= rate <= 1000.0:
        raise UserError(f"--pace: {pace:.40} is no pace; give virtual, wall, or a number of times from 1 to 1000")
    if rung == "hardware" and rate != 1.0:
        raise UserError("--pace: a real robot has the wall clock; leave --pace away")
    return rate


def consent(journal: Journal, kind: str, participant: str | None) -> dict[str, str]:
    """Pseudonym and consent version for the start document; UserError where they are not on record."""
    from calib.participants import list_participants

    if participant is None:
        return {}
    known = {p.pseudonym: p for p in list_participants(journal)}
    if participant not in known:
        raise UserError(
            f"--participant: {participant} is not enrolled; "
            f"`calib participant enrol {shlex.quote(participant)} --consent V`"
        )
    return {"participant": participant, "consent_version": known[participant].consent_version}


def provenance(setup: Setup) -> dict[str, str]:
    """Code, platform and the scenario's own text."""
    return {
        "code_sha256": code_sha256(),
        "platform": platform_fingerprint(),
        "scenario_text": setup.scenario.text,
    }


def new_run_id() -> str:
    """A run id that sorts by time and tells nothing of a person."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def conduct(plan: Plan) -> int:
    """Run the session to its end, write the truth of a simulation, audit, and show the summary. The exit code."""
    screen = _terminal.Screen(plan.setup, quiet=plan.json)

    def tell(what: str, body: dict[str, Any]) -> None:
        screen.tell(what, body)
        if what == "start":  # the robot is ours by now
            for line in close_left_open(plan.journal, plan.facts["device_spec"]):
                screen.note(line)

    runner = Runner(
        Run(
            run=plan.run,
            setup=plan.setup,
            device=plan.device,
            journal=plan.journal,
            person=plan.person,
            operator="human" if plan.person is None or plan.device.rung == "hardware" else "automatic",
            pace=rate_of(plan.facts["pace"], plan.device.rung),
            facts=plan.facts,
            tell=tell,
        )
    )
    pressed = _signals(runner)
    try:
        register(
            RunnerEntry(
                plan.run, os.getpid(), runner.server.port, runner.server.token, plan.facts["device_spec"],
                plan.journal_url,
            )
        )  # fmt: skip
        screen.opening(plan.run, plan.facts)
        if plan.person is None or plan.device.rung == "hardware":
            _terminal.listen(runner, screen)
        session = runner.go(plan.resumed, plan.number)
    except JournalError as error:
        raise _resumable(plan, runner, error) from None
    finally:
        runner.server.close()
        unregister(plan.run)
        screen.close()
    try:
        complete(plan, session, screen, pressed)
    except JournalError as error:
        raise _resumable(plan, runner, error) from None
    return 130 if pressed else exit_code(session)


def exit_code(session: Session) -> int:
    """Of a session that has ended by itself."""
    return 3 if session.stop_reason == "device_failure" else 0


def _resumable(plan: Plan, runner: Runner, error: JournalError) -> JournalError:
    """What the journal holds is whole: a document that is missing is written by `resume`."""
    if runner.session is None:
        return error
    return JournalError(f"{error}; then `calib resume {plan.run} --journal {plan.journal_url}` goes on")


def complete(plan: Plan, session: Session, screen: "_terminal.Screen", pressed: Sequence[int] = ()) -> None:
    """What comes after the stop document: the truth of a simulation, the audit, the summary."""
    if plan.person is not None:
        documents = {t: [e.body for e in plan.journal.entries(plan.run, [t]) if e.body] for t in ("start", "round")}
        body = truth_document(plan.person, session, documents["start"][0], documents["round"])
        plan.journal.append(plan.run, "truth", body)
    if plan.audit and plan.setup.scenario.change:
        screen.note("no audit: its model takes intent for fixed, and the scenario has [change]")
    elif plan.audit and session.stop_reason != "stopped" and session.state.evidence.num_answers[0] > 0:
        screen.note("auditing with PyMC (a process of its own; up to a minute) ...")
        _audit(plan, pressed)
    summary = summarise(plan.journal.entries(plan.run), plan.journal_url)
    if plan.json:
        print(json.dumps(summary))
    else:
        screen.summary(summary)
        if plan.setup.role == "advisor":
            from experiments.declaring import reference

            if found := reference(plan.setup):
                screen.line(_terminal.rule_line(found))


def _audit(plan: Plan, pressed: Sequence[int]) -> None:
    command = [sys.executable, "-m", "calib.audit", plan.journal_url, plan.run]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                err = process.communicate(timeout=0.2)[1]
                break
            except subprocess.TimeoutExpired:
                if pressed:  # Ctrl-C reaches it by itself, a kill of this process alone does not
                    process.terminate()
            except BaseException:
                process.kill()
                raise
    if process.returncode and pressed:
        print("calib run: the audit was interrupted; the run itself is complete", file=sys.stderr)
    elif process.returncode:
        lines = err.strip().splitlines() or ["no message"]
        print(f"calib run: the audit failed ({lines[-1]}); the run itself is complete", file=sys.stderr)


def _signals(runner: Runner) -> list[int]:
    """Ctrl-C and kill stop the robot, then the session; the second Ctrl-C gives up waiting for a tidy end."""
    pressed: list[int] = []

    def handle(number: int, frame: Any) -> None:
        pressed.append(number)
        # in a thread: the handler may have interrupted the very code that holds the driver's lock
        threading.Thread(target=runner.stop, args=(signal.Signals(number).name,), daemon=True).start()
        # Between an event and its documents the stop is awaited once more: it comes next.
        if len(pressed) > (2 if runner.is_recording else 1):
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError):
            signal.signal(number, handle)
    return pressed
