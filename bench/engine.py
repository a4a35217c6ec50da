"""A round of one person under the engines of a session, and the updates of the belief with a mental model alone.

`make bench`, or `python -m bench.engine`. Prints p50 and p99 of an update, of a choice of the next question and of a
whole round in milliseconds, and as multiples of a reference kernel and of a single-precision product of matrices that
are timed in turn with the rounds (bench/reference.py); the bytes of a belief beside them. An update is also told in
evaluations of the likelihood of all answers over the particles. One thread, in the processor's time, which other work
on the machine does not lengthen; `--audit` adds the ratio to NUTS on the same data.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from bench.reference import SGEMM, reference_s, sgemm
from calib import live, mind, rounds
from calib.audit import sample_posterior
from calib.evidence import Evidence
from calib.mental import EXTRAS, MindPrior
from calib.questions import PAIR
from calib.scenario import Beliefs, load_scenario
from calib.setup import Setup, make_setup
from calib.state import State
from experiments.batch import run_outcome
from experiments.live_person import answer_noise
from experiments.minds import live_through
from experiments.people import rational
from experiments.truth import draw_truth, first_mind

NUM_ROUNDS = 20
SESSIONS = (("live", 1024), ("live", 4096), ("full", 2048))  # engine, particles
MIND_ROUNDS, MIND_MODES, MIND_PARTICLES = 50, 8, 2048
BELIEFS = Beliefs(spread=(0.2, 0.4), learning_sd_logit=0.7, probe_sd=0.05)  # what `full` needs of a scenario
Times = dict[str, list[float]]


def timed(times: Times, name: str, work: Callable[..., Any], *args: Any) -> Any:
    """What the work gives; the processor's seconds for it are noted."""
    begun = time.process_time()
    found = work(*args)
    times.setdefault(name, []).append(time.process_time() - begun)
    return found


def timed_sessions(setup: Setup, num_people: int) -> tuple[Times, State]:
    """Sessions of people one by one: seconds of each part of each round, and the last one's end."""
    times: Times = {}
    for person in range(-1, num_people):  # person -1 compiles
        if person == 0:
            times.clear()
        people = np.array([max(person, 0)])
        truth = draw_truth(setup, people, {})
        their_mind = first_mind(setup, people, truth)
        state = rounds.begin_session(setup, people)
        zero = np.zeros(1)
        for _ in range(setup.max_rounds):
            begun = time.process_time()
            state = rounds.begin_round(setup, state)
            choice = rational.choose(setup, truth, their_mind, state, answer_noise(setup, state, "choice"))
            state = rounds.chosen(setup, state, choice, zero, zero)
            z, robot_s = run_outcome(setup, state)
            their_mind = rational.experience(setup, truth, their_mind, state, z)
            ran = rounds.outcome(setup, state, z, robot_s, robot_s)
            state = timed(times, "choice", rounds.question, setup, ran)
            answer = rational.compare(setup, truth, their_mind, state, answer_noise(setup, state, "comparison"))
            state = rounds.answered(setup, state, PAIR, answer, zero, zero)
            state = timed(times, "update", rounds.measure, setup, state)
            times.setdefault("round", []).append(time.process_time() - begun)
            if isinstance(state.evidence, Evidence):
                args = (state.belief, setup.prior, state.evidence, np.zeros(1, np.int64))
                timed(times, "likelihood", live.answer_log_likelihood, *args)
            note_references(times)
    return times, state


def mind_prior(rng: np.random.Generator) -> MindPrior:
    """Of MIND_MODES modes and six attributes, in two groups of salience."""
    means = dict.fromkeys(EXTRAS, 0.0) | {
        "log_rationality_mode_choice": np.log(10),
        "log_rationality_accept_override": np.log(10),
        "log_rationality_comparison": np.log(10),
        "logit_lapse": -3.5,
        "log_about_equal": np.log(0.5),
        "log_belief_sd": np.log(0.2),
    }
    salience = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.5])
    expectation = rng.random((MIND_MODES, 6))
    sd = np.full(len(EXTRAS), 0.5)
    return MindPrior(np.full(6, 0.5), np.array([means[name] for name in EXTRAS]), sd, expectation, salience, 0.05, 5)


def timed_minds(num_people: int, seed: int) -> tuple[Times, int]:
    """The belief with a mental model alone, choices, runs, probes and comparisons, a round each; bytes of a belief."""
    times: Times = {}
    size = 0
    for person in range(-1, num_people):  # person -1 compiles
        if person == 0:
            times.clear()
        own = max(person, 0)
        rng = np.random.default_rng([seed, own])
        prior = mind_prior(rng)
        lived = MIND_ROUNDS if person >= 0 else 2
        history, ends, _ = live_through(rng, prior, lived, lived, lived)
        mover, belief = mind.Mover(prior, seed), mind.start(prior, own, seed, MIND_PARTICLES)
        for end in ends:
            until = history._replace(num=np.array([end]))
            timed(times, "likelihood", mover.values, belief, until)
            belief = timed(times, "update", mover.update, belief, until, own)[0]
            note_references(times)
        size = belief.particles.nbytes + belief.value.nbytes
    return times, size


def note_references(times: Times) -> None:
    """The references, now."""
    times.setdefault("reference", []).append(reference_s())
    times.setdefault("sgemm", []).append(sgemm()[0])


def summary(name: str, times: Times, belief_bytes: int) -> dict[str, Any]:
    """p50 and p99 of each part in milliseconds and as multiples of the medians of the references."""
    reference, product = np.median(times["reference"]), np.median(times["sgemm"])
    found: dict[str, Any] = {"tier": name, "belief_kb": belief_bytes / 1e3, "reference_us": float(reference) * 1e6}
    found["sgemm_gflops"] = 2 * SGEMM**3 / float(np.min(times["sgemm"])) / 1e9
    for part in ("update", "choice", "round", "likelihood"):
        if part in times:
            for label, share in (("p50", 0.5), ("p99", 0.99)):
                seconds = float(np.quantile(times[part], share))
                found[f"{part}_{label}"] = {
                    "ms": seconds * 1e3,
                    "of_reference": seconds / float(reference),
                    "of_sgemm": seconds / float(product),
                }
    evaluation = float(np.median(times["likelihood"])) if "likelihood" in times else None
    if evaluation:
        found["update_p99_of_likelihood"] = float(np.quantile(times["update"], 0.99)) / evaluation
        found["update_p50_of_likelihood"] = float(np.median(times["update"])) / evaluation
    return found


def told(found: dict[str, Any]) -> list[str]:
    """The rows of one tier."""
    lines = []
    for part in ("update", "choice", "round", "likelihood"):
        if f"{part}_p50" in found:
            of = [found[f"{part}_{label}"] for label in ("p50", "p99")]
            cells = [f"{low:.{digits}f}, {high:.{digits}f}" for low, high, digits in (
                (of[0]["ms"], of[1]["ms"], 2),
                (of[0]["of_reference"], of[1]["of_reference"], 1),
                (of[0]["of_sgemm"], of[1]["of_sgemm"], 1),
            )]  # fmt: skip
            lines.append(f"| {found['tier']} | {part} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--minds", type=int, default=2, help="people of the belief with a mental model alone (2)")
    parser.add_argument("--audit", action="store_true", help="PyMC's posterior of the last person, and how much longer")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    scenario, audit = replace(load_scenario("apartment"), beliefs=BELIEFS), {}
    tiers: list[dict[str, Any]] = []
    for engine, num_particles in SESSIONS:
        setup = make_setup(scenario, seed=1, max_rounds=NUM_ROUNDS, engine=engine, num_particles=num_particles)
        times, state = timed_sessions(setup, args.people)
        size = sum(column.nbytes for column in state.belief)
        tiers.append(summary(f"{setup.tier}, {num_particles:,}", times, size))
        if args.audit and engine == "live" and not audit:
            begun = time.perf_counter()
            sample_posterior(setup.prior, state.evidence, 1)
            audit["seconds"] = time.perf_counter() - begun
            audit["over_update"] = audit["seconds"] / float(np.median(times["update"]))
    times, size = timed_minds(args.minds, 1)
    tiers.append(summary(f"full, {MIND_PARTICLES:,}, {MIND_ROUNDS} rounds with probes", times, size))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if args.json:
        print(json.dumps({"tiers": tiers, "peak_mb": peak_mb, "audit": audit or None}))
        return
    print(f"one thread; sgemm of {SGEMM} x {SGEMM}: {max(t['sgemm_gflops'] for t in tiers):.0f} GFLOP/s at its best")
    print(f"reference kernel: {np.median([t['reference_us'] for t in tiers]):.0f} us\n")
    print("| belief, particles | part | ms: p50, p99 | of the reference kernel | of the sgemm |")
    print("|---|---|---|---|---|")
    for tier in tiers:
        for line in told(tier):
            print(line)
    print()
    for tier in tiers:
        line = f"{tier['tier']}: belief {tier['belief_kb']:,.0f} KB"
        if "update_p50_of_likelihood" in tier:
            line += f"; an update is {tier['update_p50_of_likelihood']:.1f} evaluations of the likelihood over the "
            line += f"particles, p99 {tier['update_p99_of_likelihood']:.1f}"
        print(line)
    print(f"peak memory of the process: {peak_mb:,.0f} MB")
    if audit:
        print(f"PyMC's posterior of the same data: {audit['seconds']:.0f} s, {audit['over_update']:,.0f} x the update")


if __name__ == "__main__":
    main()
