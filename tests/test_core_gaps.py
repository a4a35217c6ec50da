"""The six gaps add up exactly, and each is zero, positive or negative where the definitions say so."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.gaps import GAPS, gaps
from calib.setup import Setup

Make = Callable[..., Setup]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_the_six_add_up_and_the_first_three_are_never_negative(lab: Make, seed: int, data: st.DataObject) -> None:
    setup = lab()
    rng = np.random.default_rng(seed)
    num, draws = 3, 5
    w = np.ascontiguousarray(rng.dirichlet(np.full(3, 0.5), (num, draws)).transpose(0, 2, 1))
    f_hat = rng.uniform(-0.5, 1.5, (num, setup.num_modes, 3))
    setting = st.lists(st.integers(0, len(setup.settings) - 1), min_size=num, max_size=num).map(np.array)
    context = np.array(data.draw(st.lists(st.integers(0, 2), min_size=num, max_size=num)))
    alone, commanded, realised = (data.draw(setting) for _ in range(3))
    terms = gaps(setup, w, f_hat, context, alone, commanded, realised)
    for i in range(num):
        for p in range(draws):
            u = [float(w[i, :, p] @ setup.phi[s, context[i]]) for s in range(len(setup.settings))]
            achievable = max(u[s] for s in range(len(u)) if setup.feasible[s, context[i]])
            assert abs(sum(t[i, p] for t in terms) - (achievable - u[realised[i]])) < 1e-12
    for term in (terms.capability, terms.menu, terms.mental_model):
        assert (term >= 0).all()
    assert (terms.mediation[alone == commanded] == 0).all()
    assert (terms.execution[commanded == realised] == 0).all()


def test_each_gap_by_hand(lab: Make) -> None:
    """Utilities of one attribute: dense 0.9, S_ref 0.8, best mode 0.7, believed best 0.5, c 0.4, d 0.6, r 0.55."""
    scenario = lab().scenario
    phi = np.zeros((len(scenario.settings), 3, 3))
    num_modes, reference = len(scenario.modes), scenario.num_reference
    phi[:num_modes, :, 0] = np.array([0.7, 0.5, 0.4, 0.3])[:, None]
    phi[num_modes:reference, :, 0] = 0.1
    phi[num_modes, :, 0], phi[num_modes + 1, :, 0], phi[reference, :, 0] = 0.8, 0.6, 0.9
    phi[reference + 1, :, 0] = 0.55
    phi[:, :, 2] = 0.5  # quiet enough for the limit
    setup = lab(phi, noise=0.0)
    assert setup.mode_setting.tolist() == [0, 1, 2, 3]
    w = np.array([1.0, 0.0, 0.0])[None, :, None]
    f_hat = np.zeros((1, num_modes, 3))
    f_hat[0, 1, 0] = 1.0
    terms = gaps(setup, w, f_hat, *(np.array([v]) for v in (0, 2, num_modes + 1, reference + 1)))
    expected = {
        "capability": 0.1,
        "menu": 0.1,
        "mental_model": 0.2,
        "choice": 0.1,
        "mediation": -0.2,
        "execution": 0.05,
    }
    assert {k: float(getattr(terms, k)[0, 0]) for k in GAPS} == pytest.approx(expected, abs=1e-12)


def test_an_advisor_that_helps_has_negative_mediation(lab: Make) -> None:
    """d is the best of S_ref, c the worst mode."""
    setup = lab()
    w = np.array([0.4, 0.4, 0.2])
    u = setup.phi[:, 0] @ w
    best = int(np.argmax(np.where(setup.feasible[:, 0], u, -1)[: setup.num_reference]))
    worst = int(setup.mode_setting[np.argmin(u[setup.mode_setting])])
    args = (np.array([v]) for v in (0, worst, best, best))
    terms = gaps(setup, w[None, :, None], setup.expectation[None], *args)
    assert terms.mediation[0, 0] == pytest.approx(u[worst] - u[best])
    assert terms.mediation[0, 0] < 0 and terms.execution[0, 0] == 0


def test_who_believes_the_truth_has_no_mental_model_gap(lab: Make) -> None:
    setup = lab()
    w = np.random.default_rng(0).dirichlet(np.ones(3), (1, 50)).transpose(0, 2, 1)
    truth = setup.phi[setup.mode_setting, 1][None]
    terms = gaps(setup, w, truth, *(np.array([v]) for v in (1, 0, 0, 0)))
    assert (terms.mental_model == 0).all()
