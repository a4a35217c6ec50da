"""What a prior that fits the people saves: `python -m bench.matched`.

People of a population that is not the scenario's are calibrated under the engine bulk with four priors: the scenario's
own, which is wide; the population that `fit_hierarchical` finds in the survey answers of other people of theirs; the
true population; and one fitted on the answers of another population, whose people care for other things. Prints the
restricted mean of the rounds to sustained true alignment and the paired difference to the wide prior.
"""

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np

from bench.policies import TAU, difference, told_difference, variation
from calib.choice import comparison_log_probs
from calib.kernel import COMPARISON
from calib.policies import load_policy
from calib.scenario import Population, Scenario, load_scenario
from calib.setup import Setup, make_setup
from experiments.analysis import analyse
from experiments.analysis_data import Table
from experiments.analysis_groups import Question
from experiments.batch import simulate_sessions
from experiments.choice_data import Choices
from experiments.infer import form_of
from experiments.infer_population import fit_hierarchical, population_toml, read_prior
from experiments.people import rational
from experiments.truth import draw_truth

# What the people of the two populations care for: mean weights of apartment.toml's attributes, in their order.
OURS = (0.35, 0.2, 0.05, 0.3, 0.05, 0.05)
OTHERS = (0.1, 0.1, 0.4, 0.05, 0.3, 0.05)
DRAWS = 250


def with_population(scenario: Scenario, means: tuple[float, ...], total: float) -> Scenario:
    """The scenario whose people's weights are Dirichlet with these means and this sum of the concentrations."""
    concentration = tuple(total * m for m in means)
    return replace(scenario, population=replace(scenario.population, concentration=concentration))


def survey(setup: Setup, num_people: int, num_answers: int) -> Choices:
    """What people of the setup's population say of random pairs of its cards."""
    people, attributes = np.arange(num_people), tuple(a.name for a in setup.scenario.attributes)
    truth, rng = draw_truth(setup, people, {}), np.random.default_rng([setup.seed, 2])
    person = np.repeat(people, num_answers)
    cards = setup.cards[setup.pairs[rng.integers(len(setup.pairs), size=len(person))]]  # (Q, 2, J)
    apart = np.sum((cards[:, 0] - cards[:, 1]) * truth.weights[person], axis=1)
    log_p = comparison_log_probs(np, apart, truth.rationality[person, COMPARISON], truth.about_equal[person])
    chosen = np.argmax(log_p + rng.gumbel(size=log_p.shape), axis=1)
    return Choices(
        source="survey",
        sha256="",
        attributes=attributes,
        values=cards.reshape(-1, len(attributes)),
        masks=np.zeros((2 * len(person), 2)),
        has_mask=(False, False),
        options=np.tile(["a", "b"], len(person)),
        start=2 * np.arange(len(person) + 1),
        chosen=chosen,
        channel=np.full(len(person), COMPARISON),
        has_channel=True,
        rounds=np.tile(np.arange(num_answers), num_people).astype(str),
        people=tuple(str(i) for i in people),
        person=person,
    )


def fitted(setup: Setup, num_people: int, num_answers: int) -> Population:
    """The population that the survey's answers tell of, as the next scenario takes it."""
    choices = survey(setup, num_people, num_answers)
    form = form_of(choices, "simplex")
    _, population = fit_hierarchical(form, choices, setup.seed, DRAWS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.toml"
        path.write_text(population_toml(form, population), encoding="utf-8")
        found = read_prior(str(path), choices.attributes)
    of = setup.scenario.population
    rationality = (*of.rationality[:COMPARISON], found.rationality[COMPARISON])
    return replace(of, concentration=found.concentration, rationality=rationality)


def compare(args: argparse.Namespace, wide: Scenario) -> tuple[list[dict[str, Any]], dict[str, Population]]:
    """One entry a prior, and the priors."""
    options = {"policy": args.policy, "engine": "bulk", "max_rounds": TAU + wide.horizon}
    true = make_setup(with_population(wide, OURS, args.total), seed=args.seed, **options)
    # other people than those who are calibrated: another seed
    ours = replace(true, seed=args.seed + 1)
    others = make_setup(with_population(wide, OTHERS, args.total), seed=args.seed + 2, **options)
    priors = {
        "wide": wide.population,
        "fitted": fitted(ours, args.surveyed, args.answers),
        "true": true.scenario.population,
        "fitted on others": fitted(others, args.surveyed, args.answers),
    }
    columns: dict[str, list[Any]] = {"prior": [], "person": [], "rounds": [], "event": []}
    for name, population in priors.items():
        setup = make_setup(replace(wide, population=population), seed=args.seed, table=true.map, **options)
        sessions = simulate_sessions(setup, rational, {}, np.arange(args.people), drawn_from=true)
        columns["prior"] += [name] * args.people
        columns["person"] += [str(i) for i in range(args.people)]
        columns["rounds"] += sessions.times["true"].rounds.tolist()
        columns["event"] += sessions.times["true"].event.tolist()
    arrays = {k: np.array(v, dtype=object if isinstance(v[0], str) else float) for k, v in columns.items()}
    table = Table("bench.matched", arrays, lambda i: f"row {i}", (), ours=False)
    found = analyse(table, Question(time="rounds", event="event", group=("prior",), tau=TAU), models=False)
    groups = {group["name"]: group for group in found["groups"]}
    first = groups["wide"]["rmst"]["estimate"]
    rows = [
        {
            "prior": name,
            "rounds": groups[name]["rmst"],
            "of_wide": groups[name]["rmst"]["estimate"] / first,
            "less_wide": difference(found["contrasts"], name, "wide") if name != "wide" else None,
            "median": groups[name]["median"],
            "aligned": groups[name]["events"].get("1", 0) / args.people,
        }
        for name in priors
    ]
    return rows, priors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rationality", type=float, default=20.0, help="median of comparisons (20)")
    parser.add_argument("--total", type=float, default=12.0, help="sum of the population's concentrations (12)")
    parser.add_argument("--surveyed", type=int, default=200, help="people whose answers the population is fitted on")
    parser.add_argument("--answers", type=int, default=20, help="comparisons that each of them answered")
    parser.add_argument("--policy", default="hybrid")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    load_policy(args.policy)
    shipped = load_scenario("apartment")
    wide = variation(shipped, args.rationality)
    rows, priors = compare(args, wide)
    if args.json:
        conditions = {k: v for k, v in vars(args).items() if k != "json"}
        print(
            json.dumps(conditions | {"priors": rows, "concentration": {k: p.concentration for k, p in priors.items()}})
        )
        return
    print(
        f"{shipped.name}; people of {args.total:g} times {OURS}, rationality of comparisons {args.rationality:g}; "
        f"priors fitted on {args.answers} comparisons of each of {args.surveyed} others; engine bulk, {args.policy}, "
        f"{args.people} people, seed {args.seed}; restricted to {TAU} rounds\n"
    )
    print("| prior | rounds | of wide's | less wide | median | aligned by 60 | concentration |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        of, median = row["rounds"], row["median"]
        shares = ", ".join(f"{a:.2f}" for a in priors[row["prior"]].concentration)
        print(
            f"| {row['prior']} | {of['estimate']:.2f} ({of['low']:.2f} to {of['high']:.2f}) | {row['of_wide']:.2f} "
            f"| {told_difference(row['less_wide'])} | {'-' if median is None else f'{median:g}'} "
            f"| {row['aligned']:.1%} | {shares} |"
        )


if __name__ == "__main__":
    main()
