"""What simulated people are: drawn from the scenario's population, one row a person, never seen by a session."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calib import alignment
from calib.history import RATING, STOP
from calib.mental import ASPIRATION, BELIEF_SD, HAZARD, LEARNING, SPACING
from calib.outcomes import plant_map
from calib.setup import Setup, with_map
from calib.streams import stream_key, uniforms
from calib.utility import aspiration_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Truth(NamedTuple):
    """Intent and manner of answering of N people."""

    weights: Floats  # (N, J)
    aspirations: Floats  # (N, J), (N, 0) where utility is linear
    rationality: Floats  # (N, 3) by channel
    lapse: Floats  # (N,)
    reliance: Floats  # (N,)
    inertia: Floats  # (N,)
    about_equal: Floats  # (N,)
    learning_rate: Floats  # (N,)
    belief_sd: Floats  # (N,) spread of f_hat(0) around the descriptions
    rating: Floats  # (N, 3) rationality, aspiration and spacing of grades; zeros where nobody rates or cuts short
    stopping: Floats  # (N, 2) rationality and hazard a minute of cutting a run short; zeros where nobody may
    luck: Floats  # (N, 2) uniforms of their own, for what else a model draws of a person
    best: Floats  # (N, X) U_max over the feasible settings of S_ref in each context
    worst: Floats  # (N, X) U_min
    own: Floats  # (N, E) the parameters that only this model has, in the order of its PARAMETERS
    changed: Ints  # (N,) round before which the intent was last drawn anew, 0 where it never was


class Mind(NamedTuple):
    """What people expect of the modes, and what ran last."""

    f_hat: Floats  # (N, M, J)
    last_mode: Ints  # (N,)


@lru_cache(maxsize=16)
def world(setup: Setup) -> Setup:
    """The setup as the simulated home has it: the same one, but where the machine's map is planted or fitted."""
    if setup.map.source not in ("planted", "fitted"):
        return setup
    return with_map(setup, plant_map(setup.scenario))


TRAITS = ("rationality", "lapse", "reliance", "inertia", "about_equal", "learning_rate", "belief_sd")


def draw_truth(setup: Setup, people: Ints, parameters: dict[str, float]) -> Truth:
    """People from the population of the scenario; `parameters` fix some of TRAITS for everybody, rationality in all
    channels. A person's draw depends on the seed and their number only."""
    x = setup.prior.draw(stream_key(setup.seed, "person truth"), people, 1)[:, :, 0]
    weights = simplex(x[:, : setup.num_attributes - 1])
    aspirations = _aspirations(setup, people)
    ends = alignment.extremes(world(setup), alignment.known_intent(setup, weights, aspirations))
    extra = x[:, setup.num_attributes - 1 :]

    def fixed(name: str, drawn: Floats) -> Floats:
        return np.full_like(drawn, parameters[name]) if name in parameters else drawn

    learning_rate, belief_sd = _mental(setup, people)
    return Truth(
        weights=weights,
        aspirations=aspirations,
        rationality=fixed("rationality", np.exp(extra[:, :3])),
        lapse=fixed("lapse", 1 / (1 + np.exp(-extra[:, 3]))),
        reliance=fixed("reliance", extra[:, 4]),
        inertia=fixed("inertia", extra[:, 5]),
        about_equal=fixed("about_equal", np.exp(extra[:, 6])),
        learning_rate=fixed("learning_rate", learning_rate),
        belief_sd=fixed("belief_sd", belief_sd),
        rating=_rating(setup, people),
        stopping=_stopping(setup, people),
        luck=uniforms(stream_key(setup.seed, "person luck"), people, 0, 2),
        best=ends.best[:, :, 0],
        worst=ends.worst[:, :, 0],
        own=np.tile([v for k, v in parameters.items() if k not in TRAITS], (len(people), 1)),
        changed=np.zeros(len(people), np.int64),
    )


def simplex(ratios: Floats) -> Floats:
    """(N, J) weights of log ratios (N, J - 1) to the last weight."""
    ratios = np.concatenate([ratios, np.zeros((len(ratios), 1))], axis=1)
    weights = np.exp(ratios - ratios.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def with_weights(setup: Setup, truth: Truth, who: NDArray[np.bool_], weights: Floats) -> Truth:
    """Those in `who` (N,) with other weights (N, J) from here on."""
    rows = np.flatnonzero(who)
    ends = alignment.extremes(world(setup), alignment.known_intent(setup, weights[rows], truth.aspirations[rows]))
    held = truth.weights.copy(), truth.best.copy(), truth.worst.copy()
    for column, new in zip(held, (weights[rows], ends.best[:, :, 0], ends.worst[:, :, 0]), strict=True):
        column[rows] = new
    return truth._replace(weights=held[0], best=held[1], worst=held[2])


def intent(setup: Setup, truth: Truth) -> Floats:
    """(N, V, 1) as calib/alignment.py takes it."""
    return alignment.known_intent(setup, truth.weights, truth.aspirations)


def _aspirations(setup: Setup, people: Ints) -> Floats:
    prior = setup.aspirations
    if prior is None:
        return np.empty((len(people), 0))
    u = uniforms(stream_key(setup.seed, "person aspirations"), people, 0, len(prior.mean))
    return np.asarray(aspiration_of(np, prior.mean + prior.sd * ndtri(u)))


def _mental(setup: Setup, people: Ints) -> tuple[Floats, Floats]:
    """(N,) learning rates and spreads of f_hat(0), the same for everybody where the scenario says nothing of them."""
    if setup.mind is None:
        return np.full(len(people), setup.scenario.learning_rate), np.zeros(len(people))
    x = ndtri(uniforms(stream_key(setup.seed, "person mental model"), people, 0, 2))
    logit, log_sd = (setup.mind.mean[e] + setup.mind.sd[e] * x[:, i] for i, e in enumerate((LEARNING, BELIEF_SD)))
    return 1 / (1 + np.exp(-logit)), np.exp(log_sd)


def _rating(setup: Setup, people: Ints) -> Floats:
    if not (setup.scenario.asks_ratings or setup.learns_from_cuts) or setup.mind is None:
        return np.zeros((len(people), 3))
    x = ndtri(uniforms(stream_key(setup.seed, "person ratings"), people, 0, 3))
    places = [RATING, ASPIRATION, SPACING]
    log_r, aspiration, log_spacing = (setup.mind.mean[places] + setup.mind.sd[places] * x).T
    return np.stack([np.exp(log_r), aspiration, np.exp(log_spacing)], axis=1)


def _stopping(setup: Setup, people: Ints) -> Floats:
    if not setup.learns_from_cuts or setup.mind is None:
        return np.zeros((len(people), 2))
    x = ndtri(uniforms(stream_key(setup.seed, "person cutting short"), people, 0, 2))
    places = [STOP, HAZARD]
    return np.asarray(np.exp(setup.mind.mean[places] + setup.mind.sd[places] * x))


def first_mind(setup: Setup, people: Ints, truth: Truth) -> Mind:
    """Before the first run: around the descriptions, as far as each person's spread goes."""
    f_hat = np.repeat(setup.expectation[None], len(people), axis=0)
    if np.any(truth.belief_sd > 0):
        u = uniforms(stream_key(setup.seed, "person expectations"), people, 0, f_hat[0].size)
        f_hat += truth.belief_sd[:, None, None] * ndtri(u).reshape(f_hat.shape)
    return Mind(f_hat, np.full(len(people), -1))
