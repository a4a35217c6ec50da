"""How often the alarm is raised: by people as modelled (never more than alpha), and by planted misfits (its power).

python -m bench.honesty --people 2000 --rounds 20
python -m bench.honesty --people 150 --rounds 40 --role tool,advisor --person clicking --person intransitive
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from calib.scenario import load_scenario
from experiments.honesty import COLUMNS
from experiments.parts import CONDITION, decoded, make_plan
from experiments.population import simulate_population


def main() -> None:
    """Simulate and print a line a condition."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--role", default="advisor")
    parser.add_argument("--person", action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--engine", default="live")
    parser.add_argument("--particles", type=int, default=None)
    args = parser.parse_args()
    scenario = load_scenario("apartment")
    plan = make_plan(
        scenario.file,
        scenario.text,
        roles=args.role.split(","),
        policies=["information_gain"],
        people_specs=args.person or ["rational"],
        people=args.people,
        seed=args.seed,
        max_rounds=args.rounds,
        stop_rule="max_rounds",
        particles=args.particles,
        chunk=50,
        engine=args.engine,
    )
    with tempfile.TemporaryDirectory() as folder:
        manifest = simulate_population(plan, Path(folder), args.jobs, lambda _: None)
        contents = [(Path(folder) / part["file"]).read_bytes() for part in manifest["parts"]]
    names = [*CONDITION, *(name for name, _ in COLUMNS)]
    rows = [row for content in contents for row in decoded(content, names).to_pylist()]
    for label in dict.fromkeys(tuple(row[name] for name in CONDITION) for row in rows):
        _print(label, [row for row in rows if tuple(row[name] for name in CONDITION) == label], args.rounds)


def _print(label: tuple[str, ...], rows: list[dict], rounds: int) -> None:
    raised = np.array([row["alarm_round"] or np.inf for row in rows])
    share = {t: float(np.mean(raised <= t)) for t in sorted({10, 20, 40, rounds}) if t <= rounds}
    gain = np.array([row["log_score"] - row["log_baseline"] for row in rows])
    licences = [row["utility_licence"] for row in rows]
    words = ", ".join(f"{v:.1%} by round {t}" for t, v in share.items())
    print(f"{label[0]}, {label[2]}, {len(rows)} people: alarm {words}")
    print(f"  gain over no learning {gain.mean():+.2f} ± {gain.std() / np.sqrt(len(gain)):.2f} nats", end="")
    print(f", positive in {np.mean(gain > 0):.1%}")
    print(f"  utility licence { ({str(k): licences.count(k) for k in ('yes', 'partly', 'no', None)}) }")
    low = np.mean([row["surprise_p"] < 0.05 for row in rows])
    print(
        f"  predictive check below 0.05 in {low:.1%}; answers to drop {np.mean([row['to_drop'] for row in rows]):.2f}"
    )


if __name__ == "__main__":
    main()
