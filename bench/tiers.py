"""Speed, coverage, memory and growth of the engine tiers: `python -m bench.tiers`, `--quick` for a fifth of the people.

Each tier is timed as its users run it, `calib simulate` with two processes, from start to `data_sha256`; the speed
without the start is what ten times as many people add. Coverage is that of 90% intervals of the true degree and of
every weight over people who share the engine's prior, with the p-value of a Kolmogorov-Smirnov test of the ranks, for
the weights the smallest times their number. Memory is the sum over all processes of what each has of its own and its
share of the rest (Pss), at its peak. Exponents are of processor time, less that of a crowd of eight, by least squares
on logarithms: 1 is linear; `--growth` prints them alone. Figures depend on the machine; where it is shared, the rate a
processor second tells more. Nothing here is asserted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import numpy as np
from scipy.stats import kstest

from calib.scenario import load_scenario
from calib.setup import Setup, make_setup
from experiments.batch import simulate_sessions
from experiments.people import rational

ROOT = Path(__file__).resolve().parent.parent
TIERS = (("oracle", "random"), ("bulk", "random"), ("bulk", "information_gain"))


def family_memory(pid: int) -> int:
    """Bytes of a process and all below it, shared pages counted once (Linux)."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = 1024 * int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(family_memory(int(child)) for child in (task / "children").read_text().split())
    except OSError:  # gone in the meantime
        pass
    return total


def simulate(people: int, rounds: int, engine: str, policy: str) -> dict[str, Any]:
    """One `calib simulate`: seconds, peak bytes of the process tree, and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["simulate", "apartment", "--people", people, "--rounds", rounds, "--engine", engine]
        words += ["--policy", policy, "--jobs", 2, "--out", f"{folder}/out", "--json"]
        begun, spent, peak = time.perf_counter(), processor_s(), 0
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.append(process.stdout.read() if process.stdout else ""))
        reader.start()
        while process.poll() is None:
            peak = max(peak, family_memory(process.pid))
            time.sleep(0.5)  # reading the memory of a process holds it up
        reader.join()
        if process.returncode:
            raise SystemExit(f"calib simulate --engine {engine} failed with {process.returncode}")
        found: dict[str, Any] = json.loads(output[0])
    return {
        "seconds": time.perf_counter() - begun,
        "processor_s": processor_s() - spent,
        "peak_bytes": peak,
        **found,
    }


def processor_s() -> float:
    """Processor seconds of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def coverage(engine: str, policy: str, people: int, rounds: int) -> dict[str, float]:
    """How often 90% intervals hold the truth, and how uniform its ranks are, for an advisor after `rounds`."""
    from calib import alignment
    from calib.engines import bulk

    setup = make_setup(load_scenario("apartment"), engine=engine, policy=policy, max_rounds=rounds, seed=21)
    sessions = simulate_sessions(setup, rational, {}, np.arange(people))
    belief, truth = sessions.state.belief, sessions.truth
    w = bulk.intent(setup, belief)
    weight = np.exp(belief.log_weight.astype(np.float64))
    weight /= weight.sum(axis=1, keepdims=True)
    degrees = alignment.degree(setup, w, alignment.extremes(setup, w), sessions.state.standing)
    of_degree = ranks(degrees, weight, sessions.true_degree[:, -1], 1e-5)
    of_weights = [ranks(w[:, j], weight, truth.weights[:, j], 0.0) for j in range(w.shape[1])]
    p_values = [kstest(r, "uniform").pvalue for r in of_weights]
    return {
        "degree": float(np.mean((of_degree > 0.05) & (of_degree < 0.95))),
        "weights": float(np.mean([(r > 0.05) & (r < 0.95) for r in of_weights])),
        "degree_p": float(kstest(of_degree, "uniform").pvalue),
        "weights_p": float(min(1.0, min(p_values) * len(p_values))),
        "smallest_ess": float(belief.smallest_ess.min()),
    }


def ranks(draws: np.ndarray, weight: np.ndarray, truth: np.ndarray, tie: float) -> np.ndarray:
    """(N,) weight of the draws (N, P) below the truth (N,), ties broken at random: uniform if calibrated."""
    off = draws - truth[:, None]
    below, same = np.sum(weight * (off < -tie), axis=1), np.sum(weight * (np.abs(off) <= tie), axis=1)
    return below + same * np.random.default_rng(0).random(len(truth))


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds by log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(engine: str, policy: str, quick: bool) -> tuple[float, float]:
    """Exponents of the processor time in people and in rounds, within one process.

    The time of eight people is subtracted: it is what a call costs whoever is in it.
    """

    def cost(people: int, rounds: int) -> float:
        setup = make_setup(load_scenario("apartment"), engine=engine, policy=policy, max_rounds=rounds, seed=3)
        return quickest(setup, people) - quickest(setup, 8)

    def quickest(setup: Setup, people: int) -> float:
        times = []
        for _ in range(4):  # the first one compiles
            begun = time.process_time()
            simulate_sessions(setup, rational, {}, np.arange(people))
            times.append(time.process_time() - begun)
        return min(times)

    base = (4096 if engine == "oracle" else 512) * (1 if quick else 2)
    crowds, lengths = [base, 2 * base, 4 * base], [10, 20, 40, 80]
    by_people = exponent([n - 8 for n in crowds], [cost(n, 10) for n in crowds])
    by_rounds = exponent(lengths, [cost(base, t) for t in lengths])
    return by_people, by_rounds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the people, coverage over 2,000")
    parser.add_argument("--growth", action="store_true", help="the exponents alone")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds = 20
    crowds = {"oracle": 1_000_000 // (5 if args.quick else 1), "bulk": 100_000 // (5 if args.quick else 1)}
    found: dict[str, Any] = {"cores": os.cpu_count(), "rounds": rounds, "tiers": []}
    for engine, policy in TIERS:
        by_people, by_rounds = growth(engine, policy, args.quick)
        tier: dict[str, Any] = {"engine": engine, "policy": policy if engine != "oracle" else None}
        tier |= {"exponent_people": by_people, "exponent_rounds": by_rounds}
        found["tiers"].append(tier)
        if args.growth:
            if not args.json:
                print(f"{name_of(tier)}: {told_growth(tier)}", flush=True)
            continue
        few, many = crowds[engine] // 5, crowds[engine]  # the smaller crowd too is work for both processes
        simulate(64, 2, engine, policy)  # compiles what is not in the cache
        short, long = (simulate(n, rounds, engine, policy) for n in (few, many))
        tier |= {
            "people": many,
            "rounds_per_s": many * rounds / long["seconds"],
            "rounds_per_s_without_start": (many - few) * rounds / (long["seconds"] - short["seconds"]),
            "rounds_per_processor_s": (many - few) * rounds / (long["processor_s"] - short["processor_s"]),
            "peak_mb": long["peak_bytes"] / 1e6,
            "data_sha256": long["data_sha256"],
        }
        if engine != "oracle":
            tier["coverage"] = coverage(engine, policy, 2_000 if args.quick else 4_000, rounds)
        if not args.json:
            print(told(tier), flush=True)
    if args.json:
        print(json.dumps(found))


def told(tier: dict[str, Any]) -> str:
    """The lines of one tier."""
    lines = [
        f"{name_of(tier)}: {tier['rounds_per_s']:,.0f} person-rounds/s with start, files and hash "
        f"({tier['rounds_per_s_without_start']:,.0f} without the start), {tier['people']:,} people, 2 processes; "
        f"{tier['rounds_per_processor_s']:,.0f} a processor second",
    ]
    if "coverage" in tier:
        c = tier["coverage"]
        lines.append(
            f"  90% intervals hold the true degree in {c['degree']:.1%} and the weights in {c['weights']:.1%}; "
            f"rank p {c['degree_p']:.2f} and {c['weights_p']:.2f}; smallest ESS {c['smallest_ess']:.1%} of particles"
        )
    else:
        lines.append("  coverage: exact by construction, it is told the truth")
    lines.append(f"  peak memory of all processes {tier['peak_mb']:,.0f} MB; {told_growth(tier)}")
    return "\n".join(lines)


def name_of(tier: dict[str, Any]) -> str:
    """The tier in a word or two."""
    return str(tier["engine"]) + (f", {tier['policy']}" if tier["policy"] else "")


def told_growth(tier: dict[str, Any]) -> str:
    """How a tier's processor time grows."""
    return f"processor time grows with people^{tier['exponent_people']:.2f}, rounds^{tier['exponent_rounds']:.2f}"


if __name__ == "__main__":
    main()
