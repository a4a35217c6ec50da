"""The live update against a reference kernel and against the PyMC audit of the same data: `make bench`.

Prints medians and 99th percentiles as multiples of the reference kernel, timed in turn with the updates, and the
ratio to NUTS. One thread; `--no-audit` leaves the slow half out; `--json` prints one document.
"""

import argparse
import json
import os
import time

os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np

from bench.reference import reference_kernel
from calib import rounds
from calib.audit import sample_posterior
from calib.scenario import load_scenario
from calib.setup import Setup, make_setup
from experiments.batch import run_outcome
from experiments.live_person import answer_noise
from experiments.people import rational
from experiments.truth import draw_truth, first_mind

NUM_ROUNDS = 12


def timed_sessions(setup: Setup, num_people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, rounds.State]:
    """Seconds of each update (people, rounds), of each whole round's numbers, of the reference beside them."""
    update, whole, reference = (np.zeros((num_people, setup.max_rounds)) for _ in range(3))
    x, out = np.linspace(0, 1, 1024), np.empty(1024)
    for person in range(-1, num_people):  # person -1 compiles
        people = np.array([max(person, 0)])
        truth = draw_truth(setup, people, {})
        mind = first_mind(setup, people, truth)
        state = rounds.begin_session(setup, people)
        zero = np.zeros(1)
        for t in range(setup.max_rounds):
            begun = time.perf_counter()
            state = rounds.begin_round(setup, state)
            choice = rational.choose(setup, truth, mind, state, answer_noise(setup, state, "choice"))
            state = rounds.chosen(setup, state, choice, zero, zero)
            z, robot_s = run_outcome(setup, state)
            mind = rational.experience(setup, truth, mind, state, z)
            state = rounds.question(setup, rounds.outcome(setup, state, z, robot_s, robot_s))
            answer = rational.compare(setup, truth, mind, state, answer_noise(setup, state, "comparison"))
            state = rounds.compared(setup, state, answer, zero, zero)
            before = time.perf_counter()
            state = rounds.measure(setup, state)
            after = time.perf_counter()
            reference_kernel(x, out)
            end = time.perf_counter()
            if person >= 0:
                update[person, t], whole[person, t] = after - before, after - begun
                reference[person, t] = end - after
    return update, whole, reference, state


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--no-audit", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    setup = make_setup(load_scenario("apartment"), seed=1, max_rounds=NUM_ROUNDS)
    update, whole, reference, state = timed_sessions(setup, args.people)
    unit = float(np.median(reference))
    found: dict[str, object] = {
        "particles": setup.num_particles,
        "rounds": NUM_ROUNDS,
        "reference_us": unit * 1e6,
        "update_median": float(np.median(update)) / unit,
        "update_p99": float(np.quantile(update, 0.99)) / unit,
        "update_median_ms": float(np.median(update)) * 1e3,
        "update_p99_ms": float(np.quantile(update, 0.99)) * 1e3,
        "round_median": float(np.median(whole)) / unit,
        "round_median_ms": float(np.median(whole)) * 1e3,
    }
    if not args.no_audit:
        begun = time.perf_counter()
        sample_posterior(setup.prior, state.evidence, 1)
        seconds = time.perf_counter() - begun
        found |= {"audit_s": seconds, "audit_over_update": seconds / float(np.median(update[:, -1]))}
    if args.json:
        print(json.dumps(found))
        return
    print(f"reference kernel: {found['reference_us']:.1f} us (median, in turn with the updates)")
    print(
        f"live update, {setup.num_particles} particles, rounds 1 to {NUM_ROUNDS}: "
        f"median {found['update_median']:.0f} x, p99 {found['update_p99']:.0f} x the reference kernel "
        f"({found['update_median_ms']:.2f} ms, {found['update_p99_ms']:.2f} ms)"
    )
    print(
        f"whole round (question and update): median {found['round_median']:.0f} x ({found['round_median_ms']:.2f} ms)"
    )
    if not args.no_audit:
        print(
            f"PyMC audit of the same data: {found['audit_s']:.0f} s, "
            f"{found['audit_over_update']:,.0f} x the median update of round {NUM_ROUNDS}"
        )


if __name__ == "__main__":
    main()
