"""What a session carries from event to event, and what engines give back: plain records over arrays of people."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib import live
from calib.checks import Checks
from calib.evidence import Evidence
from calib.history import History
from calib.questions import PAIR, PROBE
from calib.setup import Setup

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

CLOCKS = ("rounds", "attention_s", "wall_s", "robot_s", "effort")


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """The intent is what it has been since round `first`, before which it was drawn anew; 1: it never changed."""

    first: int
    entries: int  # answers before it
    log_p: float
    setup: Setup  # its prior is what was known of the manner at its birth
    belief: Any  # the engine's, of one person
    before: Floats  # (2, J) mean and sd of the weights that were believed when it was born


class Asked(NamedTuple):
    """A question of the past, and what was known when it was asked."""

    round: int
    since: int  # it was about changes after this round
    p_changed: float
    likely: int  # round before which the change lay most probably
    answer: int


@dataclass(frozen=True, eq=False)
class Bank:
    """One person's hypotheses, oldest first."""

    hypotheses: tuple[Hypothesis, ...]
    settled: int = 0  # up to this round it is settled whether the intent changed
    asked: tuple[Asked, ...] = ()
    volunteered: bool = False  # the person has said by themselves that they changed: it counts with the next answers


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the belief says of the standing configuration, one entry a person (N,)."""

    mean: Floats
    low: Floats  # 5%
    high: Floats  # 95%
    p_aligned: Floats  # P(A >= 1 - eps)
    trial: Floats  # mean degree of what ran in this round
    left_out: Floats  # mean number of contexts left out


@dataclass(frozen=True, eq=False)
class State:
    """Everything a session carries between events; N people, T = max_rounds, other letters as in Setup."""

    people: Ints  # (N,) numbers that name the random streams
    round: int  # the round under way, 0 before the first
    active: Mask  # (N,)
    context: Ints  # (N,)
    replicate: Ints  # (N,)
    proposal: Ints  # (N,) setting number, -1 where the role proposes nothing
    f_hat: Floats  # (N, M, J) the mental model of somebody who took the descriptions for true
    last_mode: Ints  # (N,) mode that ran last, -1 for none
    standing: Ints  # (N, X) sigma_t
    commanded: Ints  # (N,) setting number of this round
    kind: Ints  # (N,) of this round's question, a number of calib.questions.KINDS, -1 for none
    asked: Ints  # (N,) its number within the kind, -1 for none
    answer: Ints  # (N,) to it, -1 for none
    cut_short: Mask  # (N,) they ended this round's run: it has no outcome
    seen: Floats  # (N, J) scaled outcome of the last run
    evidence: Evidence | History  # as the engine keeps it
    in_belief: Ints  # (N,) answers that the belief has taken in
    belief: Any  # the engine's
    diagnostics: live.Diagnostics
    estimate: Estimate
    p_aligned: Floats  # (N, T + 1) by round, nan where there was none
    good_enough: NDArray[np.int8]  # (N, T + 1) by round: -1 not asked, 0 no, 1 yes
    clocks: Floats  # (N, T + 1, 5) cumulative at the end of each round, in the order of CLOCKS
    checks: Checks | None  # of the answers, None where the engine predicts none
    change: tuple[Bank, ...] | None = None  # a person each; None where intent is taken to stay
    in_place: bool = False  # the tables above are written where they are: for callers that keep no older state

    def of_kind(self, kind: int) -> Ints:
        """(N,) the number of this round's question where it is of this kind, else -1."""
        return np.where(self.kind == kind, self.asked, -1)

    @property
    def pair(self) -> Ints:
        """(N,) comparison of this round, -1 for none."""
        return self.of_kind(PAIR)

    @property
    def probe(self) -> Ints:
        """(N,) belief probe of this round, -1 for none."""
        return self.of_kind(PROBE)


class Measured(NamedTuple):
    """What an engine says after a round."""

    belief: Any
    diagnostics: live.Diagnostics
    standing: Ints  # (N, X)
    estimate: Estimate


class Predicted(NamedTuple):
    """How probable the options of a round's answers were before they were given.

    [0] is the menu's, [1] a comparison's and [2] that of a rating or of the best of some cards, which are given the
    menu's answer. K = Setup.most_options.
    """

    probability: Floats  # (N, 3, K), zeros beyond the options that there are and where there is no answer
    answer: Ints  # (N, 3) option chosen, -1 where there is no answer


class Answered(NamedTuple):
    """All answers of one person so far, and how probable each option was of each, at draws of what is believed now."""

    probability: Floats  # (A, K, P), zeros beyond the options that there are
    answer: Ints  # (A,)
    is_comparison: Mask  # (A,)
