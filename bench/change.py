"""How soon a change of intent is noticed, how often one is that never was, and what the question is worth.

python -m bench.change --people 300 --ask-at 0.5 --ask-at 0.8 --ask-at 0.95 --ask-at 1

The same people, questions and noise each time: with and without the change, believed to be possible or not. Tables of
docs/change.md. A quarter of an hour on one core.
"""

import argparse
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.scenario import Change, load_scenario
from calib.setup import make_setup
from experiments import oracle
from experiments.batch import Sessions, simulate_sessions
from experiments.people import load_person

Floats = NDArray[np.float64]


def main() -> None:
    """Simulate and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--at", type=int, default=15, help="the intent changes before this round")
    parser.add_argument("--ask-at", type=float, action="append", help="levels of P(changed); several may be given")
    parser.add_argument("--hazard", type=float, default=0.02)
    parser.add_argument("--answer-error", type=float, default=0.05)
    parser.add_argument("--drift-sd", type=float, default=0.1, help="of the people who drift; 0 leaves them out")
    parser.add_argument("--particles", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    changes = f"changing,change_round={args.at}"
    fixed, kept = sessions(args, changes, None), sessions(args, "rational", None)
    lost = fixed.true_degree[:, args.at] < 1 - load_scenario("apartment").eps
    print(f"{args.people} people, {args.rounds} rounds; a change before round {args.at} leaves {lost.mean():.1%} lost")
    print(f"intent believed to stay: {describe(args, fixed, lost)}")
    print(f"  degree after the last round {mean_of(fixed.true_degree[:, -1])}, without a change "
          f"{mean_of(kept.true_degree[:, -1])}")  # fmt: skip
    for level in args.ask_at or [0.5, 0.8, 0.95]:
        with_question, never = sessions(args, changes, level), sessions(args, "rational", level)
        print(f"asked at P(changed) >= {level:g}:")
        noticed(args, with_question, never)
        drop, seen = (
            fixed.true_degree[:, args.at - 1] - fixed.true_degree[:, args.at],
            first_asked(with_question, args.at),
        )
        print(f"  the change cost those who were noticed {drop[seen < np.inf].mean():.2f} of their degree, "
              f"the others {drop[seen == np.inf].mean():.2f}")  # fmt: skip
        print(f"  {describe(args, with_question, lost)}")
        print(f"  sooner than without: {paired(args, fixed, with_question, lost)} rounds of the lost")
        gain = with_question.true_degree[:, -1] - fixed.true_degree[:, -1]
        price = never.true_degree[:, -1] - kept.true_degree[:, -1]
        print(f"  degree after the last round {mean_of(with_question.true_degree[:, -1])}, {mean_of(gain, '+')}; "
              f"without a change {mean_of(price, '+')}")  # fmt: skip
        if args.drift_sd:
            drift = sessions(args, f"changing,change_round=0,drift_sd={args.drift_sd}", level)
            print(f"  people who drift by {args.drift_sd:g} a round: asked {asked_share(drift, args.rounds):.1%}")


def sessions(args: argparse.Namespace, spec: str, ask_at: float | None) -> Sessions:
    """Of the person model SPEC, under a belief in which intent may change, or None: stays."""
    scenario = load_scenario("apartment")
    if ask_at is not None:
        change = Change(args.hazard, ask_at, 5, args.answer_error, 8)
        scenario = replace(scenario, change=change, effort_s=scenario.effort_s | {"change": 6.0})
    setup = make_setup(scenario, max_rounds=args.rounds, seed=args.seed, num_particles=args.particles)
    model, parameters = load_person(spec)
    return simulate_sessions(setup, model, parameters, np.arange(args.people))


def first_asked(found: Sessions, after: int) -> Floats:
    """(N,) round of the first question from round `after` on, infinity where there is none."""
    banks = found.state.change or ()
    return np.array([next((float(a.round) for a in bank.asked if a.round >= after), np.inf) for bank in banks])


def asked_share(found: Sessions, up_to: int) -> float:
    return float(np.mean(first_asked(found, 0) <= up_to))


def noticed(args: argparse.Namespace, changed: Sessions, never: Sessions) -> None:
    """How soon, and how often for nothing."""
    wait = first_asked(changed, args.at) - args.at + 1
    within = {n: np.mean(wait <= n) for n in (5, 10)}
    median = np.median(wait)
    half = f"half of them within {median:.0f} rounds" if np.isfinite(median) else "less than half of them"
    print(f"  noticed: {half}; {within[5]:.1%} within 5, {within[10]:.1%} within 10, {np.mean(wait < np.inf):.1%} ever")
    answers = [a for bank in changed.state.change or () for a in bank.asked if a.round >= args.at and a.answer == 0]
    off = np.array([abs(a.likely - args.at) for a in answers])
    print(f"  likely round: off by {np.median(off):.0f} in the median, by 2 at most in {np.mean(off <= 2):.1%}")
    shares = ", ".join(f"{asked_share(never, t):.1%} by round {t}" for t in (10, 20, args.rounds))
    num = np.mean([len(bank.asked) for bank in never.state.change or ()])
    print(f"  asked without a change: {shares}; {num:.2f} questions a person")


def waits(args: argparse.Namespace, found: Sessions) -> tuple[Floats, Floats]:
    """(N,) whether and after how many rounds people were aligned again."""
    setup = make_setup(load_scenario("apartment"), max_rounds=args.rounds, engine="oracle")
    num = len(found.last_round)
    since, ended = np.full(num, args.at), np.zeros(num, np.int64)
    times = oracle.time_to_realign(setup, found.true_degree, since, found.last_round, ended)
    return times.event == 1, times.rounds.astype(float)


def describe(args: argparse.Namespace, found: Sessions, lost: NDArray[np.bool_]) -> str:
    """When those who were lost are aligned again."""
    again, rounds = waits(args, found)
    share = {n: np.mean(again[lost] & (rounds[lost] <= n)) for n in (5, 10)}
    return (
        f"of the lost {share[5]:.1%} are aligned again within 5 rounds, {share[10]:.1%} within 10, "
        f"{mean_of(rounds[lost])} rounds on average up to {rounds.max():.0f}"
    )


def paired(args: argparse.Namespace, fixed: Sessions, other: Sessions, lost: NDArray[np.bool_]) -> str:
    """Mean of the difference person by person; all are watched equally long."""
    return mean_of((waits(args, fixed)[1] - waits(args, other)[1])[lost], "+")


def mean_of(values: Floats, sign: str = "") -> str:
    return f"{values.mean():{sign}.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    main()
