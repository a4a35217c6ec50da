"""Simulated people. A person model is a file in this folder with

    PARAMETERS: dict[str, float | None]                  what `--person NAME,key=value` may set, with its default; a
                                                         trait of the population that is None is drawn for everybody
    choose(setup, truth, mind, state, u) -> (N,)         option of the offer, the proposal after the modes
    choose_alone(setup, truth, mind, u) -> (N,)          the mode that they choose where nothing is recommended
    compare(setup, truth, mind, state, u) -> (N,)        0 the first card, 1 the second, 2 about equal
    good_enough(setup, truth, mind, state, u) -> (N,)    0 or 1
    experience(setup, truth, mind, state, z) -> Mind     what seeing the outcome z (N, 6) does to them

and, where they want to,

    gives_up(setup, truth, mind, state, u) -> (N,)       True: they leave instead of choosing; u (N, 1)
    becomes(setup, truth, people, round, active) -> Truth  who they are from this round on; without it, who they were
    change(setup, truth, mind, state, u) -> (N,)         what they say to "did you change, or did I misread you?", of
                                                         calib.change.ANSWERS; without it what is true
    tell(setup, truth, mind, state, u) -> (N,)           what they say to a belief probe, a value of calib/probes.py;
                                                         without it they say about what they expect
    rate(setup, truth, mind, state, u) -> (N,)           the grade of the run, and
    name_best(setup, truth, mind, state, u) -> (N,)      the best of the cards, and
    cut_short(setup, truth, state, u) -> (N,)            the minutes after which they would end the run, where they may:
                                                         without them as rational people do

`truth` is what the person is (experiments/truth.py), `mind` what they expect of the modes; `state` is read only for
what a person sees: the context, the proposal, the question. `u` are the uniforms of this question, (N, 2 M + 3) for a
choice and (N, 1) for the others: a model's only randomness. All arrays have a leading axis of people.
"""

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from calib.errors import UserError

_RANGES = {  # others: any finite number
    "rationality": (0.0, 1e6),
    "lapse": (0.0, 1.0),
    "about_equal": (1e-6, 100.0),
    "learning_rate": (0.0, 1.0),
    "belief_sd": (0.0, 10.0),
    "forgetting": (0.0, 1.0),
    "hazard": (0.0, 10.0),
    "change_round": (0.0, 1e6),
    "change_hazard": (0.0, 1.0),
    "drift_sd": (0.0, 10.0),
    "frailty_variance": (1e-6, 100.0),
    "aspiration": (0.0, 1.0),
    "threshold": (0.0, 1.0),
}


_ANSWERS = ("compare", "tell", "rate", "name_best")  # by kind of calib.questions.KINDS


def answer_to(kind: int, model: ModuleType, *args: Any) -> Any:
    """What people of the model answer to their question of this kind; `args` from setup on."""
    usual = importlib.import_module("experiments.people.rational")
    return getattr(model, _ANSWERS[kind], getattr(usual, _ANSWERS[kind]))(*args)


def about_change(model: ModuleType, *args: Any) -> Any:
    """What people of the model say when asked whether they changed; `args` from setup on."""
    usual = importlib.import_module("experiments.people.rational")
    return getattr(model, "change", usual.change)(*args)


def patience_of(model: ModuleType, setup: Any, *args: Any) -> Any:
    """(N,) seconds after which people of the model end the run, inf where nobody may; `args` from truth on."""
    if not setup.learns_from_cuts:
        return np.full(len(args[0].weights), np.inf)
    usual = importlib.import_module("experiments.people.rational")
    return 60 * getattr(model, "cut_short", usual.cut_short)(setup, *args)


def becomes(model: ModuleType, setup: Any, truth: Any, *args: Any) -> Any:
    """Who people of the model are from a round on; `args` are people, round and who is active."""
    return model.becomes(setup, truth, *args) if hasattr(model, "becomes") else truth


def person_names() -> list[str]:
    """The person models that there are: the files of this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def load_person(spec: str) -> tuple[ModuleType, dict[str, float]]:
    """Model and parameters of a SPEC like `rational` or `rational,rationality=8`. UserError where it is none."""
    name, *pairs = spec.split(",")
    if name not in person_names():
        raise UserError(f'--person: "{name}" is not a person model; choose human, {", ".join(person_names())}')
    model = importlib.import_module(f"experiments.people.{name}")
    parameters = {k: v for k, v in model.PARAMETERS.items() if v is not None}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in model.PARAMETERS:
            raise UserError(f'--person: {name} has no parameter "{key}"; it has {", ".join(model.PARAMETERS)}')
        try:
            number = float(value)
        except ValueError:
            raise UserError(f'--person: {key} is "{value}", not a number') from None
        low, high = _RANGES.get(key, (-math.inf, math.inf))
        if not math.isfinite(number) or not low <= number <= high:
            raise UserError(f"--person: {key} is {value}; it must be a finite number in {low:g} to {high:g}")
        parameters[key] = number
    return model, parameters
