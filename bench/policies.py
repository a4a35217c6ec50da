"""Rounds to sustained true alignment under each policy: `python -m bench.policies`.

The same simulated people with the same noise are asked by every policy, under the engine bulk, as an advisor. Prints
the restricted mean of the rounds and its paired difference to random and to information_gain with 95% intervals
(`calib analyze` computes the same), and the person-rounds a processor second as a ratio to information_gain's.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np

from calib.kernel import COMPARISON
from calib.policies import load_policy, policy_names
from calib.scenario import Scenario, load_scenario
from calib.setup import Setup, make_setup
from experiments.analysis import analyse
from experiments.analysis_data import Table
from experiments.analysis_groups import Question
from experiments.batch import Sessions, simulate_sessions
from experiments.people import rational

TAU = 60  # rounds of the restricted mean; people are watched a horizon longer, so that alignment at TAU is confirmed
YARDSTICKS = ("random", "information_gain")


def variation(scenario: Scenario, rationality: float) -> Scenario:
    """The scenario with this median rationality of comparisons, for the people and for the prior alike."""
    channels = list(scenario.population.rationality)
    channels[COMPARISON] = (rationality, channels[COMPARISON][1])
    population = replace(scenario.population, rationality=tuple(channels))
    return replace(scenario, population=population)


def sessions_of(setup: Setup, num_people: int) -> tuple[Sessions, float]:
    """The sessions and their processor seconds, compiling aside."""
    simulate_sessions(replace(setup, max_rounds=2), rational, {}, np.arange(2))
    begun = time.process_time()
    sessions = simulate_sessions(setup, rational, {}, np.arange(num_people))
    return sessions, time.process_time() - begun


def compare(scenario: Scenario, policies: list[str], num_people: int, seed: int) -> list[dict[str, Any]]:
    """One entry a policy, in their order."""
    columns: dict[str, list[Any]] = {"policy": [], "person": [], "rounds": [], "event": []}
    pace = {}
    for policy in policies:
        rounds = TAU + scenario.horizon
        setup = make_setup(scenario, policy=policy, engine="bulk", max_rounds=rounds, seed=seed)
        sessions, seconds = sessions_of(setup, num_people)
        pace[policy] = num_people * rounds / seconds
        columns["policy"] += [policy] * num_people
        columns["person"] += [str(i) for i in range(num_people)]
        columns["rounds"] += sessions.times["true"].rounds.tolist()
        columns["event"] += sessions.times["true"].event.tolist()
    arrays = {k: np.array(v, dtype=object if isinstance(v[0], str) else float) for k, v in columns.items()}
    table = Table("bench.policies", arrays, lambda i: f"row {i}", (), ours=False)
    question = Question(time="rounds", event="event", group=("policy",), tau=TAU)
    found = analyse(table, question, models=False)
    groups = {group["name"]: group for group in found["groups"]}
    mean = {name: group["rmst"]["estimate"] for name, group in groups.items()}
    return [
        {
            "policy": name,
            "rounds": groups[name]["rmst"],
            "median": groups[name]["median"],
            "aligned": groups[name]["events"].get("1", 0) / num_people,
            "of_random": mean[name] / mean["random"],
            "less": {other: difference(found["contrasts"], name, other) for other in YARDSTICKS if other != name},
            "rounds_per_processor_s": pace[name],
            "pace": pace[name] / pace["information_gain"],
        }
        for name in policies
    ]


def difference(contrasts: list[dict[str, Any]], a: str, b: str) -> dict[str, float]:
    """a minus b of the restricted means, people paired."""
    for contrast in contrasts:
        of = contrast["rmst_difference"]
        if (contrast["a"], contrast["b"]) == (a, b):
            return {k: of[k] for k in ("estimate", "low", "high")}
        if (contrast["a"], contrast["b"]) == (b, a):
            return {"estimate": -of["estimate"], "low": -of["high"], "high": -of["low"]}
    raise AssertionError(f"no contrast of {a} and {b}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rationality", type=float, default=20.0, help="median of comparisons (20)")
    parser.add_argument("--policy", default=",".join(policy_names()), metavar="A,B", help="policies (all)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = list(dict.fromkeys([*YARDSTICKS, *args.policy.split(",")]))
    for name in names:
        load_policy(name)
    shipped = load_scenario("apartment")
    scenario = variation(shipped, args.rationality)
    median, sd = scenario.population.rationality[COMPARISON]
    conditions = {
        "scenario": shipped.name,
        "varied": f"population.rationality.comparison = {{ median = {median:g}, sd_log = {sd:g} }}",
        "people": args.people,
        "seed": args.seed,
        "eps": scenario.eps,
        "horizon": scenario.horizon,
        "tau": TAU,
    }
    found = sorted(compare(scenario, names, args.people, args.seed), key=lambda row: float(row["rounds"]["estimate"]))
    if args.json:
        print(json.dumps(conditions | {"policies": found}))
        return
    print(
        f"{shipped.name} with {conditions['varied']}; engine bulk, role advisor, {args.people} people, "
        f"seed {args.seed}; true alignment: a degree of {1 - scenario.eps:g} that stays for {scenario.horizon} further "
        f"rounds; restricted to {TAU} rounds\n"
    )
    print("| policy | rounds | of random's | less random | less information_gain | median | aligned by 60 | pace |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found:
        print(told(row))


def told(row: dict[str, Any]) -> str:
    """A row of the table."""
    of, median = row["rounds"], row["median"]
    less = [told_difference(row["less"].get(other)) for other in YARDSTICKS]
    return (
        f"| {row['policy']} | {of['estimate']:.2f} ({of['low']:.2f} to {of['high']:.2f}) | {row['of_random']:.2f} "
        f"| {less[0]} | {less[1]} | {'-' if median is None else f'{median:g}'} | {row['aligned']:.1%} "
        f"| {row['pace']:.2f} |"
    )


def told_difference(of: dict[str, float] | None) -> str:
    """With its interval."""
    return "" if of is None else f"{of['estimate']:+.2f} ({of['low']:+.2f} to {of['high']:+.2f})"


if __name__ == "__main__":
    main()
