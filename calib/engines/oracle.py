"""No belief at all: the machine is told what each person means, stands where that is best, and asks nothing.

As an advisor it is the upper bound of every engine; as a tool it is people alone. Its degree is the true degree, so
that what it declares is never false. The truth is handed in from outside (`told`): nothing in a session can make it.
"""

from typing import NamedTuple

import numpy as np

from calib import alignment
from calib.alignment import Extremes
from calib.live import Diagnostics
from calib.setup import Setup
from calib.state import Estimate, Floats, Ints, Measured, State
from calib.utility import UTILITIES

TIER = "known"
PARTICLES = 1
UTILITIES = UTILITIES
EVIDENCE = None
LEARNS_FROM: tuple[int, ...] = ()


class Belief(NamedTuple):
    """One particle a person, the intent itself, with what follows from it once and for all."""

    intent: Floats  # (N, V, 1)
    best: Floats  # (N, X, 1)
    worst: Floats  # (N, X, 1)
    settings: Ints  # (N, X) the best feasible setting of S_ref in each context
    left_out: Floats  # (N,)


def told(setup: Setup, weights: Floats, aspirations: Floats) -> Belief:
    """The belief that is the intent: weights (N, J), and aspirations (N, J) where utility is not linear."""
    w = alignment.known_intent(setup, weights, aspirations)
    ends = alignment.extremes(setup, w)
    return Belief(w, *ends, alignment.best_settings(setup, w, ends), alignment.left_out(setup, ends))


def start(setup: Setup, people: Ints) -> Belief:
    """Nobody has told it: an error of the caller."""
    raise AssertionError("the oracle is told the intent: give begin_session a belief made by `told`")


def question(setup: Setup, state: State) -> Ints:
    """Nothing: it knows."""
    return np.full(len(state.people), -1)


def measure(setup: Setup, state: State) -> Measured:
    """The exact degree of what stands; for an advisor that is the best."""
    belief: Belief = state.belief
    ends = Extremes(belief.best, belief.worst)
    standing = belief.settings if setup.role == "advisor" else state.standing
    exact = alignment.degree(setup, belief.intent, ends, standing)[:, 0]
    trial = alignment.context_degree(setup, belief.intent, ends, state.commanded, state.context)[:, 0]
    aligned = (exact >= 1 - setup.scenario.eps).astype(np.float64)
    estimate = Estimate(exact, exact, exact, aligned, trial, belief.left_out)
    num = len(exact)
    return Measured(belief, Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num)), standing, estimate)
