"""What the evidence speaks about: intent, mental model, both or neither (definitions 2.6).

Mode choices alone identify contrasts of believed utility and nothing about intent. What was learned of either is the
share of the prior's variance that the evidence has taken away: of the weights, and of what the person expects of every
mode and attribute now. Above SPEAKS the evidence is said to speak about it.
"""

from typing import Any

import numpy as np

from calib import live
from calib.engines import load_engine
from calib.evidence import CHANNELS, Evidence
from calib.history import KINDS
from calib.mental import BELIEF_SD, MindPrior
from calib.setup import Setup
from calib.state import State

SPEAKS = 1 / 3


def identified(setup: Setup, state: State, person: int = 0) -> dict[str, Any]:
    """`answers` by channel; `intent` and `mental_model`, the shares explained; `speaks_about` in words.

    `mental_model` is None for an engine that takes it for known: what is said of intent then rests on that.
    """
    shares = {"intent": _of_intent(setup, state, person), "mental_model": _of_beliefs(setup, state, person)}
    said = [name.replace("_", " ") for name, share in shares.items() if share is not None and share > SPEAKS]
    return {"answers": answers(state, person), **shares, "speaks_about": " and ".join(said) or "neither"}


def answers(state: State, person: int = 0) -> dict[str, int]:
    """How many answers of each channel, and runs, were taken in; what did not occur is left out."""
    kept, names = state.evidence, CHANNELS if isinstance(state.evidence, Evidence) else KINDS  # one name a number
    numbers = kept.channel if isinstance(kept, Evidence) else kept.kind
    kinds = numbers[person, : kept.num_answers[person]]
    return {name: int(n) for name, n in zip(names, np.bincount(kinds, minlength=len(names)), strict=True) if n}


def in_words(found: dict[str, Any]) -> str:
    """One line of `identified`."""
    shares = {"intent": found["intent"], "mental model": found["mental_model"]}
    known = [f"{name} {share:.0%}" for name, share in shares.items() if share is not None]
    taken = "" if found["mental_model"] is not None else "; the mental model is taken for known"
    return f"{found['speaks_about']} (of the prior's variance explained: {', '.join(known)}{taken})"


def _of_intent(setup: Setup, state: State, person: int) -> float:
    a = setup.prior.concentration
    share = a / a.sum()
    before = share * (1 - share) / (a.sum() + 1)
    now = live.intent(state.belief, setup.num_attributes)[person].var(axis=-1)
    return float(1 - now.sum() / before.sum())


def _of_beliefs(setup: Setup, state: State, person: int) -> float | None:
    engine = load_engine(setup.engine)
    if setup.mind is None or not hasattr(engine, "outlook"):
        return None
    mean, var = engine.outlook(setup, state, person, 1)
    return float(1 - np.mean(mean.var(axis=-1) + var.mean(axis=-1)) / prior_variance(setup.mind))


def prior_variance(prior: MindPrior) -> float:
    """Of what a person expects of a mode's attribute before the first run."""
    return float(np.exp(2 * prior.mean[BELIEF_SD] + 2 * prior.sd[BELIEF_SD] ** 2))
