"""The honesty figures of one person, as plain JSON values (docs/honesty.md)."""

from typing import Any

import numpy as np

from calib import checks
from calib.consistency import Consistency, consistency, dominates, licence, to_drop
from calib.engines import load_engine
from calib.setup import Setup
from calib.state import State


def prequential(state: State, person: int = 0) -> dict[str, Any] | None:
    """How well the answers were predicted before they came, in nats; None where the engine predicts none."""
    c = state.checks
    if c is None or not c.num_answers[person]:
        return None
    return {
        "answers": int(c.num_answers[person]),
        "log_score": float(c.log_score[person]),
        "baseline": float(c.log_baseline[person]),
    }


def alarm(state: State, person: int = 0) -> dict[str, Any] | None:
    """The out-of-model alarm; None where the engine predicts nothing or nothing was answered."""
    c = state.checks
    if c is None or not c.num_answers[person]:
        return None
    raised = int(c.raised[person])
    return {
        "raised": raised >= 0,
        "round": raised if raised >= 0 else None,
        "says": checks.WORDS if raised >= 0 else None,
        "log_e": float(c.log_e[person]),
        "highest_log_e": float(c.highest[person]),
        "threshold_log_e": float(-np.log(checks.ALPHA)),
        "false_alarm_rate_at_most": checks.ALPHA,
        "up_to": "the error of the particles",
    }


def figures(setup: Setup, state: State, person: int = 0) -> dict[str, Any] | None:
    """All of them, at the end of a session; None where the engine predicts none. A part without evidence is None."""
    c = state.checks
    if c is None:
        return None
    found = compared(setup, state, person)
    check = predictive_check(setup, state, person)
    raised, rare = bool(c.raised[person] >= 0), check["to_drop_p"] if check else None
    return {
        "prequential": prequential(state, person),
        "alarm": alarm(state, person),
        "predictive_check": check,
        "consistency": None if found is None else found._asdict(),
        "utility_licence": None if found is None else licence(found, raised, rare),
    }


def compared(setup: Setup, state: State, person: int = 0) -> Consistency | None:
    """The comparisons of one person, None where there was none."""
    c = state.checks
    if c is None or not (c.asked[person] >= 0).any():
        return None
    return consistency(setup.pairs, setup.cards, c.asked[person], c.said[person])


def predictive_check(setup: Setup, state: State, person: int = 0) -> dict[str, Any] | None:
    """Replicated answers to the same questions: p values, conservative; None where the engine has no such draws."""
    engine, c = load_engine(setup.engine), state.checks
    if c is None or not hasattr(engine, "answered") or not c.num_answers[person]:
        return None
    probability, answer, is_comparison = engine.answered(setup, state, person)
    made = checks.replicate(setup.seed, int(state.people[person]), probability, answer, is_comparison)
    rare = None
    if is_comparison.any():
        asked = c.asked[person]
        asked, given = asked[asked >= 0], c.said[person][asked >= 0]
        better = dominates(setup.cards)
        own = abs(to_drop(setup.pairs, better, asked, given[:, None])[0])
        rare = float(np.mean(np.abs(to_drop(setup.pairs, better, asked, made.said[is_comparison])) >= own))
    return {
        "draws": probability.shape[2],
        "surprise_p": made.surprise,
        "against_p": made.against,
        "to_drop_p": rare,
        "p_values": "conservative",
    }
