"""Rules that declare a person aligned, and how often each is wrong: the first round in which a rule says so.

(eps, delta) declares at the first P(A >= 1 - eps) >= 1 - delta (definitions 3.4, 5). The others are what is done
without a posterior, for comparison: after a fixed number of rounds, once the interval of the degree is narrow, once
the estimate has stopped changing. A declaration is false where the true degree of its round is below 1 - eps.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.outcomes import cache_folder
from calib.policies import load_policy
from calib.provenance import code_sha256
from calib.scenario import digest
from calib.setup import Setup, make_setup
from experiments.batch import simulate_sessions
from experiments.people import load_person
from experiments.survival import share_interval

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

REFERENCE_PEOPLE = 2000
_NO_CHANGE_ROUNDS = 3


@dataclass(frozen=True)
class Rule:
    """says(estimate) -> (N, T + 1): whether it would declare after each round.

    estimate (N, T + 1, 4): mean, 5%, 95% quantile of the degree and P(A >= 1 - eps), nan where there was no round.
    """

    name: str
    parameter: float
    says: Callable[..., Mask]


def rules(delta: float) -> tuple[Rule, ...]:
    """The scenario's rule first, then stricter and laxer ones, then those without a posterior."""
    return (
        *(Rule("eps_delta", d, partial(_probable, delta=d)) for d in dict.fromkeys((delta, 0.05, 0.1, 0.2))),
        *(Rule("fixed_rounds", n, partial(_passed, rounds=n)) for n in (5.0, 10.0, 20.0)),
        *(Rule("interval_width", w, partial(_narrow, most=w)) for w in (0.2, 0.1, 0.05)),
        *(Rule("no_change", c, partial(_unchanged, most=c)) for c in (0.02, 0.005)),
    )


def _probable(estimate: Floats, delta: float) -> Mask:
    return np.asarray(estimate[..., 3] >= 1 - delta)


def _passed(estimate: Floats, rounds: float) -> Mask:
    return np.asarray((np.arange(estimate.shape[1]) >= rounds) & np.isfinite(estimate[..., 0]))


def _narrow(estimate: Floats, most: float) -> Mask:
    return np.asarray(estimate[..., 2] - estimate[..., 1] <= most)


def _unchanged(estimate: Floats, most: float) -> Mask:
    """Whether the mean has moved by no more than `most` in each of the last rounds."""
    mean = estimate[..., 0]
    still = np.zeros(mean.shape, bool)
    moved = np.abs(np.diff(mean, axis=1)) <= most
    for t in range(_NO_CHANGE_ROUNDS, mean.shape[1]):
        still[:, t] = moved[:, t - _NO_CHANGE_ROUNDS : t].all(axis=1)
    return still


def first_round(says: Mask) -> NDArray[np.int64]:
    """(N,) the first round from 1 on in which a rule declares, -1 for never."""
    after = says[:, 1:]
    return np.where(after.any(axis=1), 1 + after.argmax(axis=1), -1)


def judged(rule: Rule, estimate: Floats, true_degree: Floats, eps: float) -> dict[str, Any]:
    """How often the rule declares, when, and how often it is wrong, with a 95% interval."""
    at = first_round(rule.says(estimate))
    who = np.flatnonzero(at > 0)
    false = int(np.sum(true_degree[who, at[who]] < 1 - eps))
    low, high = share_interval(false, len(who)) if len(who) else (None, None)
    return {
        "rule": rule.name,
        "parameter": rule.parameter,
        "people": len(at),
        "declarations": len(who),
        "median_round": float(np.median(at[who])) if len(who) else None,
        "false_declaration_rate": false / len(who) if len(who) else None,
        "low": low,
        "high": high,
    }


def compared(setup: Setup, spec: str, num_people: int) -> list[dict[str, Any]]:
    """Every rule on the same sessions of the person model SPEC, which are watched to their last round."""
    model, parameters = load_person(spec)
    setup = replace(setup, stop_rule="max_rounds")
    sessions = simulate_sessions(setup, model, parameters, np.arange(num_people))
    scenario = setup.scenario
    return [judged(r, sessions.estimate, sessions.true_degree, scenario.eps) for r in rules(scenario.delta)]


def reference(setup: Setup) -> dict[str, Any] | None:
    """How often the scenario's own rule is wrong in 2,000 simulated people as the engine `bulk` believes of them.

    Seconds at first, then from the cache; `engine` and `person` say what it holds for. None for a policy that asks what
    `bulk` does not learn from, and for a utility that it does not hold for.
    """
    if hasattr(load_policy(setup.policy), "FULL_MENU") or setup.aspirations is not None:
        return None
    held = [setup.scenario.hash, setup.map.sha256, setup.role, setup.policy, setup.max_rounds, code_sha256()]
    path = cache_folder() / f"declaring-{digest(held)}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        asked: dict[str, Any] = {
            "role": setup.role,
            "policy": setup.policy,
            "max_rounds": setup.max_rounds,
            "table": setup.map,
        }
        fixed = replace(setup.scenario, change=None)  # the people and the engine here keep their intent
        bulk = make_setup(fixed, engine="bulk", seed=2**31, **asked)
        found = compared(bulk, "rational", REFERENCE_PEOPLE)[0] | {"engine": bulk.engine_label, "person": "rational"}
        with contextlib.suppress(OSError):  # a full cache is no error
            path.write_text(json.dumps(found), encoding="utf-8")
    return found
