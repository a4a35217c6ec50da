"""The compiled kernel is the PyMC model, to a constant: value, gradient, prior and all channels."""

from itertools import product

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from calib.choice import comparison_log_probs, menu_log_probs
from calib.evidence import Evidence, add_best_of, add_choice, add_comparison, empty_evidence
from calib.kernel import (
    ACCEPT_OVERRIDE,
    BEST_OF,
    COMPARISON,
    MODE_CHOICE,
    NUM_EXTRA,
    Answers,
    evaluate,
    lay_out,
    log_target,
    make_room,
    weights,
)
from calib.prior import Prior

Floats = NDArray[np.float64]
ALL = np.array([True])


def random_evidence(rng: np.random.Generator, num_answers: int, dims: int, most: int, channels: list[int]) -> Evidence:
    """Random answers of one person: menus of 2 to `most` options with or without a proposal and a last mode."""
    evidence = empty_evidence(1, num_answers + 3, most, dims)
    for _ in range(num_answers):
        channel = int(rng.choice(channels))
        if channel == COMPARISON:
            a, b = rng.random((2, 1, dims))
            evidence = add_comparison(evidence, ALL, a, b, rng.integers(0, 3, 1))
            continue
        count = int(rng.integers(2, most + 1))
        if channel == BEST_OF:
            evidence = add_best_of(evidence, ALL, rng.random((1, count, dims)), rng.integers(0, count, 1))
            continue
        proposed = np.array([count - 1]) if channel == ACCEPT_OVERRIDE else np.array([-1])
        options = rng.uniform(-0.2, 1.2, (1, count, dims))
        last = rng.integers(-1, count, 1)
        evidence = add_choice(evidence, ALL, channel, options, rng.integers(0, count, 1), proposed, last)
    return evidence


def random_prior(rng: np.random.Generator, dims: int) -> Prior:
    mean = np.array([np.log(20), np.log(15), np.log(25), -3.5, 0.5, 0.3, np.log(0.5)])
    return Prior(rng.uniform(0.3, 3, dims), mean + rng.normal(0, 0.2, 7), rng.uniform(0.3, 0.8, 7))


def random_particles(rng: np.random.Generator, prior: Prior, num: int, wide: float = 1.5) -> Floats:
    """(D, P), wider than the prior."""
    ratios = rng.normal(0, 2, (len(prior.concentration) - 1, num))
    extra = prior.mean[:, None] + wide * prior.sd[:, None] * rng.normal(0, 1, (NUM_EXTRA, num))
    return np.concatenate([ratios, extra])


def kernel(
    x: Floats,
    prior: Prior,
    evidence: Evidence,
    *,
    first: int = 0,
    first_new: int | None = None,
    end: int | None = None,
    new_scale: float = 1.0,
    prior_scale: float = 1.0,
) -> tuple[Floats, Floats]:
    """Value (P,) and gradient (D, P)."""
    count = int(evidence.num_answers[0]) if end is None else end
    value, gradient = np.empty(x.shape[1]), np.empty(x.shape)
    answers = Answers(*(column[0] for column in evidence[:-1]))
    middle = count if first_new is None else first_new
    args = (first, middle, count, new_scale, prior_scale, True, value, gradient)
    log_target(x, prior, answers, *args)
    return value, gradient


def values(x: Floats, dims: int) -> dict[str, Floats]:
    """One particle (D,) as the PyMC model's value variables. Its simplex has y with log w = (y, -sum y) + constant."""
    e = dims - 1
    ratios = x[:e]
    return {
        "weights_simplex__": ratios - ratios.sum() / dims,
        "log_rationality": x[e : e + 3],
        "logit_lapse": x[e + 3],
        "reliance": x[e + 4],
        "inertia": x[e + 5],
        "log_about_equal": x[e + 6],
    }


EVERYTHING = [MODE_CHOICE, ACCEPT_OVERRIDE, COMPARISON, BEST_OF]
# J, most options, channels, particles, answers
CASES = {
    "the prior alone": (4, 3, [], 500, 0),
    "mode choices": (6, 9, [MODE_CHOICE], 1500, 25),
    "accept or override": (6, 10, [ACCEPT_OVERRIDE], 1500, 25),
    "comparisons": (5, 2, [COMPARISON], 1500, 25),
    "the best of cards": (5, 4, [BEST_OF], 1500, 25),
    "everything": (6, 10, EVERYTHING, 3000, 40),
    "everything, two attributes": (2, 4, EVERYTHING, 3000, 20),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_is_the_pymc_model(name: str) -> None:
    """12,500 particles in all: within 1e-8 a choice on values and 1e-6 on gradients, up to one constant a model."""
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode
    from pytensor.graph.replace import vectorize_graph

    from calib.model import build_model

    dims, most, channels, num, count = CASES[name]
    rng = np.random.default_rng(sorted(CASES).index(name))
    prior = random_prior(rng, dims)
    evidence = random_evidence(rng, count, dims, most, channels)
    model = build_model(prior, evidence)
    many = {v: pt.tensor(v.name, shape=(None, *v.type.shape), dtype=v.dtype) for v in model.value_vars}
    each = vectorize_graph(model.logp(), many)
    outputs = [each, *pt.grad(each.sum(), list(many.values()))]
    graph = pytensor.function(list(many.values()), outputs, mode=Mode(linker="py", optimizer=None))
    x = random_particles(rng, prior, num)
    value, gradient = kernel(x, prior, evidence)
    points = [values(x[:, p], dims) for p in range(num)]
    expected, *slopes = graph(*(np.array([point[str(v.name)] for point in points]) for v in many))
    assert np.ptp(value - expected) < 1e-8 * max(count, 1)
    slope = np.concatenate([of.reshape(num, -1) for of in slopes], axis=1).T
    assert np.all(np.abs(to_value_variables(gradient, dims) - slope) <= np.maximum(1e-6, 1e-6 * np.abs(slope)))


def to_value_variables(gradient: Floats, dims: int) -> Floats:
    """d/dx -> d/dy for x_j = y_j + sum y; the other coordinates are the same."""
    e = dims - 1
    return np.concatenate([gradient[:e] + gradient[:e].sum(axis=0), gradient[e:]])


def plain_log_density(x: Floats, prior: Prior, evidence: Evidence, first: int, end: int) -> tuple[Floats, Floats]:
    """(P,) log prior up to a constant, and (P,) log likelihood of the answers [first, end), from calib/choice.py."""
    dims = len(prior.concentration)
    w = np.exp(np.concatenate([x[: dims - 1], np.zeros((1, x.shape[1]))]))
    w /= w.sum(axis=0)
    extra = x[dims - 1 :]
    log_prior = prior.concentration @ np.log(w)
    log_prior -= 0.5 * np.sum(((extra - prior.mean[:, None]) / prior.sd[:, None]) ** 2, axis=0)
    total = np.zeros(x.shape[1])
    for a in range(first, end):
        channel, chosen, k = (int(c[0, a]) for c in (evidence.channel, evidence.chosen, evidence.num_options))
        utility = (evidence.features[0, a, :k] @ w).T  # (P, K)
        r = np.exp(extra[min(channel, COMPARISON)])
        if channel == COMPARISON:
            log_p = comparison_log_probs(np, utility[:, 0] - utility[:, 1], r, np.exp(extra[6]))
        else:
            log_p = menu_log_probs(
                np,
                utility,
                r[:, None],
                1 / (1 + np.exp(-extra[3]))[:, None],
                reliance=extra[4][:, None],
                recommended=evidence.recommended[0, a, :k],
                inertia=extra[5][:, None],
                last=evidence.last[0, a, :k],
            )
        total += log_p[:, chosen]
    return log_prior, total


@pytest.mark.parametrize(("dims", "most"), [(2, 2), (3, 5), (6, 10), (9, 4)])
def test_the_kernel_is_the_numpy_choice_model(dims: int, most: int) -> None:
    """40 random evidences of random length times 300 particles: 12,000 inputs a case."""
    rng = np.random.default_rng(dims)
    for _ in range(40):
        prior = random_prior(rng, dims)
        evidence = random_evidence(rng, int(rng.integers(1, 30)), dims, most, EVERYTHING)
        x = random_particles(rng, prior, 300)
        value, _ = kernel(x, prior, evidence)
        log_prior, total = plain_log_density(x, prior, evidence, 0, int(evidence.num_answers[0]))
        assert value == pytest.approx(log_prior + total, abs=1e-8, rel=1e-10)


@pytest.mark.parametrize(("new_scale", "prior_scale"), list(product([0.0, 0.3, 1.0], [0.0, 1.0])))
def test_new_answers_and_the_prior_are_scaled(new_scale: float, prior_scale: float) -> None:
    rng = np.random.default_rng(1)
    prior, evidence = random_prior(rng, 5), random_evidence(rng, 23, 5, 6, EVERYTHING)
    x = random_particles(rng, prior, 200)
    value, _ = kernel(x, prior, evidence, first_new=14, new_scale=new_scale, prior_scale=prior_scale)
    log_prior, old = plain_log_density(x, prior, evidence, 0, 14)
    _, new = plain_log_density(x, prior, evidence, 14, 23)
    assert value == pytest.approx(prior_scale * log_prior + old + new_scale * new, abs=1e-8)


def test_only_the_answers_asked_for_count() -> None:
    rng = np.random.default_rng(2)
    prior, evidence = random_prior(rng, 5), random_evidence(rng, 20, 5, 6, EVERYTHING)
    x = random_particles(rng, prior, 200)
    value, _ = kernel(x, prior, evidence, first=3, first_new=3, end=9, prior_scale=0.0)
    assert value == pytest.approx(plain_log_density(x, prior, evidence, 3, 9)[1], abs=1e-9)


@pytest.mark.parametrize("new_scale", [0.4, 1.0])
def test_the_gradient_by_finite_differences(new_scale: float) -> None:
    """Central differences with a step of 1e-5: relative error 1e-6 on every coordinate of 1,200 particles."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        prior, evidence = random_prior(rng, 5), random_evidence(rng, 15, 5, 6, EVERYTHING)
        x = random_particles(rng, prior, 60, wide=1.0)
        _, gradient = kernel(x, prior, evidence, first_new=9, new_scale=new_scale)
        for d in range(len(x)):
            shift = np.zeros_like(x)
            shift[d] = 1e-5
            up, _ = kernel(x + shift, prior, evidence, first_new=9, new_scale=new_scale)
            down, _ = kernel(x - shift, prior, evidence, first_new=9, new_scale=new_scale)
            assert gradient[d] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-5)


def test_a_comparison_far_off_is_as_unlikely_as_it_is() -> None:
    """log F(s) is s for very negative s, also many answers of e^-150 in a row: no floor, no underflow."""
    prior = Prior(np.ones(2), np.zeros(7), np.ones(7))
    x = np.zeros((8, 3))
    x[3] = np.log([100.0, 200.0, 300.0])
    x[7] = np.log(0.5)
    evidence = empty_evidence(1, 20, 2, 2)
    for answer in (1, 2) * 10:
        evidence = add_comparison(evidence, ALL, np.array([[1.0, 0.5]]), np.array([[0.0, 0.0]]), np.array([answer]))
    value, _ = kernel(x, prior, evidence, prior_scale=0.0)
    scaled = np.array([100.0, 200.0, 300.0]) * 0.75  # utility 0.75 apart
    far, equal = -(scaled + 0.5), np.log(np.expm1(1.0)) - (scaled + 0.5)
    assert value == pytest.approx(10 * far + 10 * equal, rel=1e-12)


def test_extreme_particles_stay_finite() -> None:
    """Rationality to e^20, lapse to e^-30, thresholds to e^4, weights in a corner: nothing overflows."""
    rng = np.random.default_rng(4)
    prior, evidence = random_prior(rng, 6), random_evidence(rng, 40, 6, 9, EVERYTHING)
    x = random_particles(rng, prior, 500)
    x[:5] *= 100
    x[5:8] += rng.uniform(-20, 17, (3, 500))
    x[8] = rng.uniform(-30, 30, 500)
    x[11] = rng.uniform(-10, 4, 500)
    value, gradient = kernel(x, prior, evidence)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


def test_weights_lie_on_the_simplex() -> None:
    x = np.random.default_rng(5).normal(0, 30, (5, 1000))
    out = np.empty((6, 1000))
    weights(x, 6, out)
    expected = np.exp(np.concatenate([x, np.zeros((1, 1000))]) - np.maximum(x.max(axis=0), 0))
    assert out == pytest.approx(expected / expected.sum(axis=0), rel=1e-11, abs=1e-290)


@njit
def with_gradient(x, concentration, mean, sd, rows, prior_scale, room):
    """The copy of the kernel that sessions run: it is compiled for True, which is not any truth value."""
    evaluate(x, concentration, mean, sd, rows, prior_scale, True, True, room)


@pytest.mark.parametrize(("dims", "most"), [(2, 2), (5, 6), (6, 10)])
def test_single_precision_is_double_precision_rounded(dims: int, most: int) -> None:
    """What the particles move by: within 2e-6 of the size of a value and of a gradient, on 20 random evidences."""
    rng = np.random.default_rng(dims)
    for _ in range(20):
        prior = random_prior(rng, dims)
        evidence = random_evidence(rng, int(rng.integers(1, 30)), dims, most, EVERYTHING)
        x = random_particles(rng, prior, 300, wide=1.0).astype(np.float32)
        value, gradient = kernel(x.astype(np.float64), prior, evidence)
        single = [column.astype(np.float32) for column in prior]
        count = int(evidence.num_answers[0])
        rows = lay_out(Answers(*(column[0] for column in evidence[:-1])), 0, count, count, 1.0, x)
        room = make_room(x, dims, len(rows.features), x.shape[1])
        with_gradient(x, *single, rows, np.float32(1.0), room)
        assert room.value == pytest.approx(value, rel=2e-6, abs=1e-4)
        assert room.gradient[: len(x)] == pytest.approx(gradient, rel=1e-4, abs=1e-3)
