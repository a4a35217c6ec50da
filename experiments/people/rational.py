"""Noisily rational on believed outcomes, learning from every run (definitions 2.3, 2.4, 2.5)."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calib import choice, probes, rounds
from calib.change import CHANGED, MISREAD
from calib.kernel import ACCEPT_OVERRIDE, COMPARISON, MODE_CHOICE
from calib.questions import BEST_OF, GRADES
from calib.setup import Setup
from calib.state import State
from calib.utility import value
from experiments import oracle
from experiments.truth import TRAITS, Floats, Ints, Mind, Truth

PARAMETERS: dict[str, float | None] = dict.fromkeys(TRAITS)


def choose(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The option chosen: a mode, or the proposal as the last option."""
    if setup.role != "advisor":
        return choose_alone(setup, truth, mind, u)
    features = with_proposal(setup, mind, state)
    return pick_option(truth, mind, features, rounds.proposed_option(setup, state), ACCEPT_OVERRIDE, u)


def choose_alone(setup: Setup, truth: Truth, mind: Mind, u: Floats) -> Ints:
    """The mode that the same person with the same noise chooses where nothing is recommended."""
    channel = ACCEPT_OVERRIDE if setup.role == "advisor" else MODE_CHOICE  # as rational as in the answer they gave
    return pick_option(truth, mind, mind.f_hat, np.full(len(u), -1), channel, u)


def with_proposal(setup: Setup, mind: Mind, state: State) -> Floats:
    """(N, M + 1, J) the modes as they believe them, and the proposal by its card."""
    return np.concatenate([mind.f_hat, setup.phi[state.proposal, state.context][:, None]], axis=1)


def believed_utility(truth: Truth, features: Floats) -> Floats:
    """(N, K) from features (N, K, J), summed in a fixed order: the same bits for any batch."""
    features, utility = valued(truth, features), np.zeros(features.shape[:2])
    for j in range(features.shape[2]):
        utility += features[:, :, j] * truth.weights[:, None, j]
    return utility


def valued(truth: Truth, features: Floats) -> Floats:
    """(N, K, J) what U is linear in: features (N, K, J), or v of them, clipped, at their aspirations."""
    if not truth.aspirations.shape[1]:
        return features
    return np.asarray(value(np, np.clip(features, 0.0, 1.0), truth.aspirations[:, None]))


def pick_option(truth: Truth, mind: Mind, features: Floats, proposed: Ints, channel: int, u: Floats) -> Ints:
    """(N,) the choice among options with the features (N, K, J): probabilities as in calib/choice.py.

    u (N, 1 + 2 L), L >= K: one number says whether they lapse, L make the options' Gumbel noise, L their luck then.
    Each option has noise of its own, so that a proposal more on the table changes the choice only if it is chosen.
    """
    num, width = features.shape[1], (u.shape[1] - 1) // 2
    gumbel = -np.log(-np.log(u[:, 1 : 1 + num]))
    best = np.argmax(option_values(truth, mind, features, proposed, channel) + gumbel, axis=1)
    lapse = np.argmax(u[:, 1 + width : 1 + width + num], axis=1)
    return np.where(u[:, 0] < truth.lapse, lapse, best)


def option_values(truth: Truth, mind: Mind, features: Floats, proposed: Ints, channel: int) -> Floats:
    """(N, K) what the options are worth, in log odds."""
    utility, numbers = believed_utility(truth, features), np.arange(features.shape[1])
    return choice.menu_values(
        utility,
        truth.rationality[:, channel, None],
        truth.reliance[:, None],
        (numbers == proposed[:, None]).astype(float),
        truth.inertia[:, None],
        (numbers == mind.last_mode[:, None]).astype(float),
    )


def compare(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """0 the first card, 1 the second, 2 about equal. Where nothing is asked the answer does not count."""
    a, b = setup.pairs[np.maximum(state.pair, 0)].T
    shown = valued(truth, setup.cards[np.stack([a, b], axis=1)])
    gap = shown[:, 0] - shown[:, 1]
    difference = np.zeros(len(u))
    for j in range(gap.shape[1]):
        difference += gap[:, j] * truth.weights[:, j]
    log_probs = choice.comparison_log_probs(np, difference, truth.rationality[:, COMPARISON], truth.about_equal)
    return pick(log_probs, u[:, 0])


def tell(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The value nearest to what they expect, give or take. Where nothing is asked the answer does not count."""
    beliefs, answer = setup.scenario.beliefs, np.zeros(len(u), np.int64)
    assert beliefs is not None  # nothing is asked otherwise
    mode, column = np.divmod(np.maximum(state.probe, 0), setup.num_attributes)
    phi = mind.f_hat[np.arange(len(u)), mode, column] + beliefs.probe_sd * ndtri(u[:, 0])
    for j, attribute in enumerate(setup.scenario.attributes):
        answer[column == j] = probes.nearest(attribute, phi[column == j])
    return answer


def has_changed(truth: Truth, state: State) -> NDArray[np.bool_]:
    """Whether the intent was drawn anew in the rounds that they are asked about."""
    assert state.change is not None
    return truth.changed > np.array([bank.settled for bank in state.change])


def change(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Whether they changed what they want, 0, or were misread, 1; wrong as often as the scenario says."""
    assert setup.scenario.change is not None
    right = np.where(has_changed(truth, state), CHANGED, MISREAD)
    return np.where(u[:, 0] < setup.scenario.change.answer_error, 1 - right, right)


def rate(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The grade of the run that they just saw (ordered logit). Where nothing is asked the answer does not count."""
    utility = believed_utility(truth, state.seen[:, None])[:, 0]
    rationality, aspiration, spacing = truth.rating.T
    return pick(choice.grade_log_probs(np, utility, rationality, aspiration, spacing, len(GRADES)), u[:, 0])


def name_best(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The card that they like best, lapsing as in any menu. Where nothing is asked the answer does not count."""
    utility = believed_utility(truth, setup.cards[setup.menus[np.maximum(state.of_kind(BEST_OF), 0)]])
    log_probs = choice.menu_log_probs(np, utility, truth.rationality[:, COMPARISON, None], truth.lapse[:, None])
    return pick(log_probs, u[:, 0])


def cut_short(setup: Setup, truth: Truth, state: State, u: Floats) -> Floats:
    """Minutes until they end the run, of which they see what it is predicted to do: a constant hazard."""
    utility = believed_utility(truth, setup.phi[state.commanded, state.context][:, None])[:, 0]
    rationality, hazard = truth.stopping.T
    log_rate = np.log(hazard) - rationality * (utility - truth.rating[:, 1])
    return np.asarray(-np.log(u[:, 0]) * np.exp(-log_rate))


def good_enough(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The acceptance curve at the true degree of what stands (definitions 7)."""
    degree = oracle.true_degree(setup, truth, state.standing)
    curve = setup.scenario.acceptance
    rise = 1 / (1 + np.exp(-curve.slope * (degree - curve.a50)))
    return (u[:, 0] < curve.gamma + (1 - curve.gamma - curve.lapse) * rise).astype(np.int64)


def experience(setup: Setup, truth: Truth, mind: Mind, state: State, z: Floats) -> Mind:
    """They see the outcome and learn about the mode that ran."""
    learning = truth.learning_rate[:, None] * np.array(setup.scenario.salience)
    return Mind(*rounds.experience(setup, mind.f_hat, mind.last_mode, state.commanded, z, state.active, learning))


def pick(log_probs: Floats, u: Floats) -> Ints:
    """Inverse of the distribution function over the last axis."""
    cumulative = np.cumsum(np.exp(log_probs), axis=-1)
    below = np.sum(u[:, None] * cumulative[:, -1:] >= cumulative, axis=-1)
    return np.minimum(below, log_probs.shape[-1] - 1)
