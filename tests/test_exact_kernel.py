"""The compiled kernel of the engine `exact` is the PyMC model: value and gradient, all channels, both utilities."""

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numba import njit
from numpy.typing import NDArray
from pytensor.compile.mode import Mode
from scipy.stats import norm

from calib import mental
from calib.comparisons import gamma_coefficients
from calib.exact_kernel import INTENT_ROWS, E, Terms, evaluate, make_room, places, terms_of
from calib.history import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE, PROBE, RUN, History
from calib.mental import MindPrior
from calib.mind_kernel import story_of
from calib.model import add_answers
from calib.prior import Prior
from calib.utility import Aspirations, aspiration_of
from test_mind_kernel import EVERYTHING, random_history, random_prior

Floats = NDArray[np.float64]
MODES, DIMS, LENGTH = 4, 3, 16
WITHOUT_BELIEFS = (MODE_CHOICE, ACCEPT_OVERRIDE, COMPARISON, BEST_OF, RUN, RUN)


def graph_of(prior: MindPrior, aspirations: Aspirations | None, history: History, terms: Terms) -> Any:
    """z (N, D) -> log density of all N, and its gradient: calib/model.py behind the coordinates."""
    first, cells, _ = places(terms)
    num, z = len(history.num), pt.dmatrix("z")
    shape, _ = gamma_coefficients(tuple(prior.concentration))
    u = pt.clip(z[:, :DIMS], -5.5, 5.5)
    gamma = pt.exp(sum(shape[:, k].astype(float) * u**k for k in range(shape.shape[1])))
    extras = terms.mean.astype(float) + terms.sd.astype(float) * z[:, DIMS : DIMS + E]
    f_hat = pt.as_tensor(np.repeat(prior.expectation[None], num, axis=0))
    if terms.minds:
        spread = z[:, cells : cells + MODES * DIMS].reshape((num, MODES, DIMS))
        f_hat = f_hat + pt.exp(extras[:, mental.BELIEF_SD])[:, None, None] * spread
    else:
        extras = pt.set_subtensor(extras[:, mental.LEARNING], np.log(terms.rate / (1 - terms.rate)))
    b = None
    if aspirations is not None:
        b = aspiration_of(pt, aspirations.mean + aspirations.sd * z[:, first : first + DIMS])
    with pm.Model() as model:
        add_answers(prior, history, gamma / gamma.sum(axis=1, keepdims=True), extras, f_hat, b)
    log_p = pt.sum(pt.stack(model.potentials)) - 0.5 * pt.sum(z**2)
    return pytensor.function([z], [log_p, pt.grad(log_p, z)], mode=Mode(linker="py", optimizer=None))


@njit
def with_gradient(z, terms, story, first_new, room):
    """The copy of the kernel that sessions run: it is compiled for True, which is not any truth value."""
    evaluate(z, terms, story, first_new, True, room)


def without_beliefs(mind: MindPrior) -> Terms:
    """The same people, who believe the descriptions."""
    prior = Prior(mind.concentration, mind.mean[INTENT_ROWS], mind.sd[INTENT_ROWS])
    return terms_of(prior, None, None, mind.expectation, mind.salience, 0.35)


@pytest.mark.parametrize("utility", ["linear", "aspiration"])
@pytest.mark.parametrize("beliefs", [True, False])
def test_the_kernel_is_the_graph(utility: str, beliefs: bool) -> None:
    """On 2,500 random particles of three random histories for each kind of setup."""
    rng = np.random.default_rng(7 + 2 * beliefs + (utility == "linear"))
    width, num, worst, worst_slope = 834, 3, 0.0, 0.0
    for _ in range(num):
        mind = random_prior(rng, MODES, DIMS, "each")
        aspirations = None
        if utility == "aspiration":
            aspirations = Aspirations(rng.normal(0.5, 0.5, DIMS), rng.uniform(0.5, 1.5, DIMS))
        terms = without_beliefs(mind)._replace(curved=aspirations is not None)
        if beliefs:
            terms = terms_of(
                Prior(mind.concentration, mind.mean[INTENT_ROWS], mind.sd[INTENT_ROWS]), mind, aspirations,
                mind.expectation, mind.salience, 0.35,
            )  # fmt: skip
        elif aspirations is not None:
            mean, sd = (v.astype(np.float32) for v in aspirations)
            terms = terms._replace(aspiration_mean=mean, aspiration_sd=sd)
        history = random_history(rng, mind, LENGTH, EVERYTHING if beliefs else WITHOUT_BELIEFS)
        story = story_of(history, 0)
        z = rng.normal(size=(places(terms)[2], width)).astype(np.float32)
        room = make_room(terms, story, width)
        with_gradient(z, terms, story, 0, room)
        everybody = History(*(np.repeat(column, width, axis=0) for column in history))  # type: ignore[arg-type]
        whole, slope = graph_of(mind, aspirations, everybody, terms)(z.T.astype(float))
        left_out = np.sum(history.kind[0, : history.num[0]] == PROBE) * norm.logpdf(0, scale=mind.probe_sd)
        mean = float(whole) / width
        worst = max(worst, abs(float(np.mean(room.value.astype(float))) + left_out - mean) / (1 + abs(mean)))
        scale = 1 + np.abs(slope).max(axis=1)
        worst_slope = max(worst_slope, float(np.max(np.abs(room.gradient.T - slope) / scale[:, None])))
    assert worst < 1e-4, worst
    assert worst_slope < 1e-4, worst_slope
