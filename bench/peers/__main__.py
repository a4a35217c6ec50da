"""This project beside ADOpy, BoTorch's preference GP and APReL in one run: `make bench-peers`.

The same simulated people, the same pool of questions, the same seeds; each peer in an environment of its own under the
cache, on one thread, driven over a pipe, all rounds of a person with each side in turns (docs/peers.md). Prints the
seconds of a round, update and choice, as measured and as ratios, and the rounds to sustained true alignment with paired
differences. What cannot be installed is said.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["NUMBA_NUM_THREADS"] = "1"

import itertools
import sys

import numpy as np

from bench.peers.driver import Asked, Here, Ours, Pool, Process, Side, arrays_of, ask_person
from bench.peers.environment import PEERS, NotInstalled, python_of
from calib import timing
from calib.scenario import load_scenario
from calib.setup import make_setup

OURS = "ours, information_gain"
PARTICLES = 4096
MENU_PEOPLE, MENU_ROUNDS = 4, 15
WARM_ROUNDS = 3
MEASURES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("median", "seconds", np.median),
    ("mean", "seconds", np.mean),
    ("p99", "seconds", partial(np.quantile, q=0.99)),
    ("processor", "processor_s", np.median),
)

# what is asked of whom: side -> (peer, options of its setup)
MENUS: dict[str, tuple[str, dict[str, Any]]] = {
    "ADOpy, 4,096 points": ("adopy", {"points": 4096, "points_first": False}),
    "ADOpy, 4,096 points, points first": ("adopy", {"points": 4096, "points_first": True}),
    "ADOpy, 16,384 points": ("adopy", {"points": 16384, "points_first": False}),
}
PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "ADOpy, 4,096 points": ("adopy", {"points": 4096, "points_first": False}),
    "ADOpy, 16,384 points": ("adopy", {"points": 16384, "points_first": False}),
    "BoTorch, EUBO": ("botorch", {"acquisition": "eubo"}),
    "BoTorch, BALD": ("botorch", {"acquisition": "bald"}),
}


def pools(seed: int) -> tuple[Pool, Pool]:
    """The scenario's pairs of cards, and all menus of three."""
    setup = make_setup(load_scenario("apartment"), seed=seed, engine="live")
    triples = np.array(list(itertools.combinations(range(len(setup.cards)), 3)))
    return Pool(setup, "pairs", setup.pairs), Pool(setup, "menus", triples)


def measured(
    pool: Pool,
    own: dict[str, str],
    peers: dict[str, tuple[str, dict[str, Any]]],
    pythons: dict[str, Path],
    people: int,
    rounds: int,
    turns: str,
) -> dict[str, list[Asked]]:
    """Each side's people. own: side -> policy."""
    sides: dict[str, Side] = {
        name: Here(Ours(pool, policy, PARTICLES, max(rounds, WARM_ROUNDS))) for name, policy in own.items()
    }
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (peer, options) in peers.items():
            if peer in pythons:
                file = Path(folder) / f"{len(processes)}.npz"
                np.savez(file, **arrays_of(pool, options.get("points", PARTICLES)))
                command = [pythons[peer], "-m", f"bench.peers.{PEERS[peer].module}"]
                setup = {"setup": str(file), "kind": pool.kind, "seed": pool.setup.seed} | options
                processes.append(Process(command, setup))
                sides[name] = processes[-1]
        ask_person(pool, sides, 0, WARM_ROUNDS)
        found: dict[str, list[Asked]] = {name: [] for name in sides}
        begun = time.perf_counter()
        for person in range(people):
            for name, asked in ask_person(pool, sides, person, rounds, turns).items():
                found[name].append(asked)
            spent = time.perf_counter() - begun
            print(f"{pool.kind}: {person + 1} of {people} people, {spent:.0f} s", file=sys.stderr, flush=True)
        for process in processes:
            process.close()
    return found


def speeds(found: dict[str, list[Asked]], rng: np.random.Generator) -> dict[str, Any]:
    """Each side's milliseconds of a round, and as multiples of ours with 95% intervals over people (bootstrap)."""
    out: dict[str, Any] = {name: {} for name in found}
    for label, field, of in MEASURES:
        taken = {
            name: np.array([getattr(asked, field) for asked in people]) for name, people in found.items()
        }  # (N, T)
        ours = taken[OURS]
        draws = rng.integers(0, len(ours), (1000, len(ours)))
        for name, theirs in taken.items():
            ratios = [of(theirs[d]) / of(ours[d]) for d in draws]
            low, high = np.quantile(ratios, [0.025, 0.975])
            estimate = of(theirs) / of(ours)
            ratio = {"estimate": float(estimate), "low": float(low), "high": float(high)}
            out[name][label] = {"ms": float(of(theirs)) * 1e3, "of_ours": ratio}
    return out


def alignments(pool: Pool, found: dict[str, list[Asked]], rounds: int) -> dict[str, Any]:
    """Each side's restricted mean of the rounds to sustained alignment, and how many more than ours, people paired."""
    horizon, times, events = pool.setup.scenario.horizon, {}, {}
    for name, people in found.items():
        aligned = np.array([asked.degrees for asked in people]) >= 1 - pool.setup.scenario.eps
        num = len(aligned)
        sustained = timing.sustained(aligned, np.full(num, rounds), horizon, np.zeros(num, np.int64))
        events[name] = sustained.event == timing.ALIGNED
        times[name] = np.where(events[name], sustained.rounds, rounds - horizon).astype(float)
    return {
        name: {
            "rounds": with_interval(times[name]),
            "more": with_interval(times[name] - times[OURS]),
            "aligned": float(np.mean(events[name])),
            "about_equal": float(np.mean([asked.answers == 2 for asked in people])),
        }
        for name, people in found.items()
    }


def with_interval(values: Any) -> dict[str, float]:
    """Mean with a 95% interval."""
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values, ddof=1)) / float(np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return {"estimate": mean, "low": mean - half, "high": mean + half}


def main() -> None:
    """Install, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=30, help="who are asked pairs (30; about 8 s a person)")
    parser.add_argument("--rounds", type=int, default=63, help="of pairs; restricted to those less the horizon (63)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(PEERS), metavar="A,B", help="peers (all)")
    parser.add_argument("--no-menus", action="store_true", help="without the menus of three")
    parser.add_argument(
        "--turns", choices=("round", "person"), default="person", help="after which another asks (person)"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    unknown = set(args.only.split(",")) - set(PEERS) - {""}
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose {', '.join(PEERS)}")
    pythons, missing = {}, {}
    for name in filter(None, args.only.split(",")):
        try:
            python = python_of(PEERS[name])
            if PEERS[name].module:
                pythons[name] = python
            else:
                missing[name] = "pip installs it; nothing drives it yet"
        except NotInstalled as error:
            missing[name] = str(error)
    pairs, menus = pools(args.seed)
    rng = np.random.default_rng(args.seed)
    own = {OURS: "information_gain"}
    found: dict[str, Any] = {"particles": PARTICLES, "seed": args.seed, "turns": args.turns, "cores": os.cpu_count()}
    found["missing"] = missing
    if not args.no_menus:
        asked = measured(menus, own, MENUS, pythons, MENU_PEOPLE, MENU_ROUNDS, args.turns)
        found["menus"] = {"people": MENU_PEOPLE, "rounds": MENU_ROUNDS, "speeds": speeds(asked, rng)}
    asked = measured(pairs, own | {"ours, hybrid": "hybrid"}, PAIRS, pythons, args.people, args.rounds, args.turns)
    found["pairs"] = {"people": args.people, "rounds": args.rounds, "speeds": speeds(asked, rng)}
    found["pairs"]["restricted_to"] = args.rounds - pairs.setup.scenario.horizon
    found["pairs"]["alignment"] = alignments(pairs, asked, args.rounds)
    if args.json:
        print(json.dumps(found))
        return
    for line in told(found):
        print(line)


def told(found: dict[str, Any]) -> list[str]:
    """The tables."""
    lines = []
    for kind, what in (("menus", "220 menus of three cards"), ("pairs", "66 pairs of cards")):
        if kind in found:
            of = found[kind]
            lines += [f"{what}, {of['people']} people, {of['rounds']} rounds, seed {found['seed']}", ""]
            labels = " | ".join(label for label, *_ in MEASURES)
            lines += [f"| side | {labels} | of ours: {labels} |", "|---" * (1 + 2 * len(MEASURES)) + "|"]
            for name, row in of["speeds"].items():
                cells = [f"{row[label]['ms']:.2f} ms" for label, *_ in MEASURES]
                cells += [told_ratio(row[label]["of_ours"]) for label, *_ in MEASURES]
                lines.append(f"| {name} | {' | '.join(cells)} |")
            lines.append("")
    tau = found["pairs"]["restricted_to"]
    lines += [f"rounds to sustained alignment, restricted to {tau}", ""]
    lines += ['| side | rounds | more than ours | aligned | "about equal" |', "|---|---|---|---|---|"]
    for name, row in found["pairs"]["alignment"].items():
        lines.append(
            f"| {name} | {told_interval(row['rounds'])} | {told_interval(row['more'], '+')} | {row['aligned']:.0%} "
            f"| {row['about_equal']:.0%} |"
        )
    lines += ["", *(f"{name} is not measured: {why}" for name, why in found["missing"].items())]
    return lines


def told_ratio(of: dict[str, float]) -> str:
    """With its interval."""
    return f"{of['estimate']:.3g} ({of['low']:.3g} to {of['high']:.3g})"


def told_interval(of: dict[str, float], sign: str = "") -> str:
    """With its interval."""
    return f"{of['estimate']:{sign}.2f} ({of['low']:{sign}.2f} to {of['high']:{sign}.2f})"


if __name__ == "__main__":
    main()
