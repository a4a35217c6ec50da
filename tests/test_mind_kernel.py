"""The compiled kernel of a person with a mental model is the PyMC model: value, prior, gradient, all channels."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numba import njit
from numpy.polynomial import polynomial
from numpy.typing import NDArray
from scipy.stats import norm

from calib import history, mental, mind_kernel
from calib.choice import comparison_log_probs, grade_log_probs, learn, menu_log_probs, stop_log_prob
from calib.comparisons import gamma_coefficients
from calib.history import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE, PROBE, RATING, RUN, STOP, History
from calib.mental import EXTRAS, MindPrior, groups_of

Floats = NDArray[np.float64]
ALL = np.array([True])
EVERYTHING = (MODE_CHOICE, ACCEPT_OVERRIDE, COMPARISON, BEST_OF, RATING, STOP, PROBE, RUN, RUN, RUN)


def random_prior(rng: np.random.Generator, num_modes: int, dims: int, salience: str) -> MindPrior:
    """Near what the apartment's people are like."""
    mean = np.array([np.log(20), np.log(15), np.log(25), np.log(12), np.log(6), -3.0, 0.5, 0.3, np.log(0.5), 0.6,
                     np.log(1.5), np.log(0.01), 0.0, np.log(0.25)])  # fmt: skip
    sd = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.7, 0.5, 0.3, 0.4, 0.15, 0.3, 0.5, 1.0, 0.4])
    noticed = {"one": np.ones(dims), "two": np.where(np.arange(dims) % 2, 0.5, 1.0), "each": rng.uniform(0.3, 1, dims)}
    expectation = rng.random((num_modes, dims))
    return MindPrior(rng.uniform(0.4, 2, dims), mean, sd, expectation, noticed[salience], 0.1, 5)


def random_history(rng: np.random.Generator, prior: MindPrior, length: int, kinds: tuple[int, ...]) -> History:
    """Entries of these kinds at random, each as likely as any other."""
    num_modes, dims = prior.expectation.shape
    out = history.empty_history(1, length, dims, num_modes + 2)
    last = -1
    for _ in range(length):
        kind = int(rng.choice(kinds))
        if kind == BEST_OF:
            size = int(rng.integers(2, num_modes + 3))
            out = history.add_best_of(out, ALL, rng.random((1, size, dims)), rng.integers(0, size, 1))
            continue
        mode, num = int(rng.integers(num_modes)), num_modes + (kind == ACCEPT_OVERRIDE)
        option = {COMPARISON: 3, RATING: prior.num_grades, STOP: 2, PROBE: num_modes, RUN: num_modes}.get(kind, num)
        out = history.add(
            out,
            ALL,
            kind,
            first=rng.random((1, dims)),
            second=rng.random((1, dims)),
            option=np.array([mode if kind in (RUN, PROBE) else rng.integers(option)]),
            where=np.array([rng.integers(dims) if kind == PROBE else last]),
            value=np.array([float(rng.integers(1, 60)) if kind == STOP else rng.normal(0.5, 0.3)]),
        )
        last = mode if kind == RUN else last
    return out


def beliefs(prior: MindPrior, h: History, f_hat: Floats, rate: float) -> list[Floats]:
    """(M, J) before each entry, by calib.choice.learn."""
    out = []
    for a in range(h.num[0]):
        out.append(f_hat.copy())
        if h.kind[0, a] == RUN:
            m = h.option[0, a]
            f_hat = f_hat.copy()
            f_hat[m] = learn(np, f_hat[m], h.first[0, a], rate, prior.salience)
    return out


def answers_log_p(prior: MindPrior, h: History, w: Floats, x: Floats, utility: list[Floats], share: Floats) -> float:
    """Of every answer but the probes; utility (M,) as believed before each entry, x (E,) the extras."""
    r, total = np.exp(x[:5]), 0.0
    for a in range(h.num[0]):
        kind, first, option = int(h.kind[0, a]), h.first[0, a], int(h.option[0, a])
        if kind in (MODE_CHOICE, ACCEPT_OVERRIDE):
            u, proposed = utility[a], np.zeros(len(utility[a]))
            last = (np.arange(len(u)) == h.where[0, a]).astype(float)
            if kind == ACCEPT_OVERRIDE:
                u, last, proposed = np.append(u, first @ w), np.append(last, 0), np.append(proposed, 1)
            lapse = 1 / (1 + np.exp(-x[mental.LAPSE]))
            log_p = menu_log_probs(
                np, u, r[kind], lapse, reliance=x[mental.RELIANCE], recommended=proposed, inertia=x[mental.INERTIA],
                last=last,
            )[option]  # fmt: skip
        elif kind == COMPARISON:
            log_p = comparison_log_probs(np, (first - h.second[0, a]) @ w, r[kind], np.exp(x[mental.TAU]))[option]
        elif kind == BEST_OF:
            of_cards = h.cards[0, a, : h.where[0, a]] @ w
            log_p = menu_log_probs(np, of_cards, r[COMPARISON], 1 / (1 + np.exp(-x[mental.LAPSE])))[option]
        elif kind == RATING:
            spacing = np.exp(x[mental.SPACING])
            log_p = grade_log_probs(np, first @ w, r[kind], x[mental.ASPIRATION], spacing, prior.num_grades)[option]
        elif kind == STOP:
            told = h.value[0, a], option
            log_p = stop_log_prob(np, first @ w, r[kind], x[mental.ASPIRATION], x[mental.HAZARD], *told)
        else:
            continue
        total += share[a] * log_p
    return float(total)


def cells(prior: MindPrior, h: History, rate: float, spread: float, share: Floats) -> tuple[Floats, Floats, float]:
    """Mean and variance (M, J) of f_hat(0) given the probes, and their log density: all probes of a cell at once."""
    mean, precision = prior.expectation / spread**2, np.full(prior.expectation.shape, spread**-2.0)
    zero, one = np.zeros_like(mean), np.ones_like(mean)
    past, whole = beliefs(prior, h, zero, rate), beliefs(prior, h, one, rate)
    found: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for a in np.flatnonzero((h.kind[0, : h.num[0]] == PROBE) & (share > 0)):
        cell, noise = (int(h.option[0, a]), int(h.where[0, a])), prior.probe_sd**2 / share[a]
        keep, gone = whole[a][cell] - past[a][cell], past[a][cell]
        precision[cell] += keep**2 / noise
        mean[cell] += keep * (h.value[0, a] - gone) / noise
        found.setdefault(cell, []).append((keep, h.value[0, a] - gone, noise))
    log_p = 0.0
    for cell, told in found.items():
        keep, said, noise = map(np.array, zip(*told, strict=True))
        cov = spread**2 * np.outer(keep, keep) + np.diag(noise)
        gap = said - keep * prior.expectation[cell]
        log_p -= 0.5 * (np.linalg.slogdet(cov)[1] + gap @ np.linalg.solve(cov, gap))
    return mean / precision, 1 / precision, log_p


def weights_of(prior: MindPrior, z: Floats) -> Floats:
    shape, _ = gamma_coefficients(tuple(prior.concentration))
    g = np.exp([polynomial.polyval(z[j], shape[j].astype(float)) for j in range(len(shape))])
    return np.asarray(g / g.sum())


def plain(prior: MindPrior, h: History, z: Floats, share: Floats) -> float:
    """Log density of one particle (D,), slowly and in double precision."""
    num_modes, dims = prior.expectation.shape
    group = groups_of(prior.salience)
    w, x = weights_of(prior, z), prior.mean + prior.sd * z[dims : dims + len(EXTRAS)]
    rate, spread = 1 / (1 + np.exp(-x[mental.LEARNING])), np.exp(x[mental.BELIEF_SD])
    mean, var, log_p = cells(prior, h, rate, spread, share)
    first = dims + len(EXTRAS)
    xi = z[first : first + num_modes * (group.max() + 1)].reshape(num_modes, -1)
    # a belief with the right projections: spread each group's surprise over its attributes
    f_hat = mean.copy()
    for g in range(group.max() + 1):
        own = group == g
        width = np.sqrt(var[:, own] @ w[own] ** 2)
        f_hat[:, own] += (width * xi[:, g] / w[own].sum())[:, None]
    utility = [b @ w for b in beliefs(prior, h, f_hat, rate)]
    return float(-0.5 * z @ z + log_p + answers_log_p(prior, h, w, x, utility, share))


@njit
def with_gradient(z, terms, story, first_new, room):
    """The copy of the kernel that sessions run: it is compiled for True, which is not any truth value."""
    mind_kernel.evaluate(z, terms, story, first_new, True, room)


def evaluate(prior: MindPrior, h: History, z: Floats, share: Floats, first_new: int = 0) -> tuple[Floats, ...]:
    """Value (W,), gradient (D, W) and new (W,) by the kernel."""
    terms, story = mind_kernel.terms_of(prior), mind_kernel.story_of(h, 0)
    story.share[: len(share)] = share
    room = mind_kernel.make_room(terms, story, z.shape[1])
    with_gradient(z.astype(np.float32), terms, story, first_new, room)
    return room.value.astype(float), room.gradient.astype(float), room.new.astype(float)


CASES = {
    "mode choices and runs": ((MODE_CHOICE, RUN), 40, "one"),
    "decisions and runs": ((ACCEPT_OVERRIDE, RUN), 40, "two"),
    "comparisons": ((COMPARISON,), 40, "one"),
    "ratings": ((RATING,), 30, "one"),
    "stops": ((STOP,), 30, "one"),
    "probes and runs": ((PROBE, RUN), 40, "two"),
    "everything": (EVERYTHING, 60, "two"),
    "everything, a salience for each": (EVERYTHING, 60, "each"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_is_the_slow_statement(name: str) -> None:
    """1e-4 an entry on values; gradients to 1e-3 of their size, by central differences of the slow one."""
    kinds, length, salience = CASES[name]
    rng = np.random.default_rng(sorted(CASES).index(name))
    for _ in range(6):
        prior = random_prior(rng, 5, 4, salience)
        h = random_history(rng, prior, length, kinds)
        z = rng.normal(0, 1.2, (mind_kernel.num_coordinates(prior), 16)).astype(np.float32).astype(float)
        share = np.where(np.arange(length) < length - 5, 1.0, 0.4)
        value, gradient, _ = evaluate(prior, h, z, share)
        expected = np.array([plain(prior, h, z[:, p], share) for p in range(16)])
        assert value == pytest.approx(expected, abs=1e-4 * length, rel=1e-5)
        for p in range(3):
            slope = differences(partial(plain, prior, h, share=share), z[:, p])
            assert gradient[:, p] == pytest.approx(slope, rel=2e-3, abs=2e-3 * np.abs(slope).max())


def differences(f: Callable[[Floats], float], x: Floats) -> Floats:
    out = np.empty_like(x)
    for d in range(len(x)):
        step = np.zeros_like(x)
        step[d] = 1e-5
        out[d] = (f(x + step) - f(x - step)) / 2e-5
    return out


@pytest.mark.slow
@pytest.mark.parametrize("salience", ["one", "two", "each"])
def test_the_collapsed_model_is_the_pymc_model(salience: str) -> None:
    """12,000 inputs: the PyMC graph with its cells, less the cells' density given projections, is the collapsed one."""
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode
    from pytensor.graph.replace import vectorize_graph

    from calib.model import build_mind_model

    rng = np.random.default_rng(7)
    prior = random_prior(rng, 5, 4, salience)
    h = random_history(rng, prior, 50, EVERYTHING)
    num_modes, dims = prior.expectation.shape
    model = build_mind_model(prior, h)
    many = {v: pt.tensor(v.name, shape=(None, *v.type.shape), dtype=v.dtype) for v in model.value_vars}
    plain = Mode(linker="py", optimizer=None)
    log_p = pytensor.function(list(many.values()), vectorize_graph(model.logp(jacobian=False), many), mode=plain)
    group, share, num = groups_of(prior.salience), np.ones(50), 4000
    z = rng.normal(0, 1.2, (mind_kernel.num_coordinates(prior), num))
    first = dims + len(EXTRAS)
    expected, points = np.empty(num), defaultdict(list)
    for p in range(num):
        w, x = weights_of(prior, z[:, p]), prior.mean + prior.sd * z[dims:first, p]
        rate, spread = 1 / (1 + np.exp(-x[mental.LEARNING])), np.exp(x[mental.BELIEF_SD])
        mean, var, _ = cells(prior, h, rate, spread, share)
        f_hat = mean + np.sqrt(var) * rng.normal(size=mean.shape)
        # its projections are the particle's xi
        surprise = (f_hat - mean) * w
        own = [group == g for g in range(group.max() + 1)]
        xi = np.stack([surprise[:, g].sum(axis=1) / np.sqrt(var[:, g] @ w[g] ** 2) for g in own], axis=1)
        z[first : first + xi.size, p] = xi.ravel()
        logs = np.log(w)
        points["weights_simplex__"].append(logs[:-1] - logs.mean())
        points["extras"].append(x)
        points["spread"].append((f_hat - prior.expectation) / spread)
        # less the priors of weights and extras, which are the coordinates' own, and p(f_hat | probes)
        expected[p] = -np.sum((prior.concentration - 1) * logs) - np.sum(norm.logpdf(x, prior.mean, prior.sd))
        expected[p] += -num_modes * dims * np.log(spread) - np.sum(norm.logpdf(f_hat, mean, np.sqrt(var)))
    expected += log_p(*(np.array(points[str(v.name)]) for v in many))
    value, _, _ = evaluate(prior, h, z, share)
    found = value + 0.5 * np.sum(z.astype(np.float32) ** 2, axis=0)
    constant = np.median(found - expected)
    assert found == pytest.approx(expected + constant, abs=1e-4 * 50, rel=1e-5)
