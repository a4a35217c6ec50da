"""The models whose people follow a rule instead of weighing, and lapse: then any option is as likely as any other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from calib.questions import BEST_OF
from calib.setup import Setup
from calib.state import State
from experiments.people import rational
from experiments.truth import Floats, Ints, Mind, Truth

Rule = Callable[[Truth, Floats], Ints]  # (truth, features (N, K, J)) -> (N,) the option that it takes


def by_rule(rule: Rule) -> tuple[Any, Any, Any]:
    """`choose`, `choose_alone` and `name_best` of people who take what the rule takes, unless they lapse."""

    def of_menu(truth: Truth, features: Floats, u: Floats) -> Ints:
        return option_unless_lapsing(truth, rule(truth, features), features.shape[1], u)

    def choose(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
        offer = rational.with_proposal(setup, mind, state) if setup.role == "advisor" else mind.f_hat
        return of_menu(truth, offer, u)

    def choose_alone(setup: Setup, truth: Truth, mind: Mind, u: Floats) -> Ints:
        return of_menu(truth, mind.f_hat, u)

    def name_best(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
        menus = setup.menus[np.maximum(state.of_kind(BEST_OF), 0)]
        return answer_unless_lapsing(truth, rule(truth, setup.cards[menus]), u, menus.shape[1])

    return choose, choose_alone, name_best


def option_unless_lapsing(truth: Truth, option: Ints, num_options: int, u: Floats) -> Ints:
    """(N,) the option of the rule, or any of the offer; u (N, 1 + 2 L) as in `pick_option` of rational."""
    width = (u.shape[1] - 1) // 2
    lapse = np.argmax(u[:, 1 + width : 1 + width + num_options], axis=1)
    return np.where(u[:, 0] < truth.lapse, lapse, option)


def answer_unless_lapsing(truth: Truth, answer: Ints, u: Floats, num_answers: int = 3) -> Ints:
    """(N,) the rule's answer to a comparison, or to another question, or any of the three or more."""
    lapse = np.minimum(num_answers * u[:, 0] / np.maximum(truth.lapse, 1e-300), num_answers - 1).astype(np.int64)
    return np.where(u[:, 0] < truth.lapse, lapse, answer)
