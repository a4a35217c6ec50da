"""Whether strict answers to comparisons of outcome cards can come from one order of the cards, better on an attribute
never being worse: revealed preference (Samuelson 1938; Afriat 1967) without prices.

Answers are edges from the preferred card. They agree with some increasing utility exactly where these edges and those
of dominance (at least as good on every attribute, better on one) have no circle. "About equal" is no edge.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT_UP_TO = 16  # cards in circles; 2^16 sets of them are gone through, above it there is a bound
TOO_RARE = 0.05  # below it people as modelled hardly ever contradict themselves so much


class Consistency(NamedTuple):
    """One person's comparisons. What could have been seen at all stands beside what was seen."""

    comparisons: int
    strict: int  # not "about equal"
    triads: int  # three cards, each pair of them compared strictly and decided
    cyclic_triads: int
    independent_cycles: int  # circuits of the graph of strictly compared pairs that generate all others
    repeated: int  # strict answers to a pair that had been answered strictly before
    contradictory: int  # of these, against the first of them
    dominance: int  # strict answers between cards one of which dominates
    dominated: int  # of these, in which the dominated one was preferred
    to_drop: int  # fewest answers without which the rest agrees with an increasing utility
    exact: bool  # False: to_drop is an upper bound, from a greedy order

    @property
    def chances(self) -> int:
        """How many answers could have contradicted the others or dominance, whatever those were."""
        return self.independent_cycles + self.repeated + self.dominance


def consistency(pairs: Ints, cards: Floats, asked: Ints, said: Ints) -> Consistency:
    """Of the questions asked (T,), rows of pairs (R, 2), -1 for none, and what was said: 0 first, 1 second, 2 equal."""
    num_cards = len(cards)
    there = asked >= 0
    strict = there & (said >= 0) & (said < 2)
    winner = np.where(said == 0, pairs[asked, 0], pairs[asked, 1])[strict]
    loser = np.where(said == 0, pairs[asked, 1], pairs[asked, 0])[strict]
    count = np.zeros((num_cards, num_cards), np.int64)
    np.add.at(count, (winner, loser), 1)
    better = dominates(cards)
    first: dict[int, int] = {}
    repeated = contradictory = 0
    for pair, answer in zip(asked[strict].tolist(), said[strict].tolist(), strict=True):
        repeated += pair in first
        contradictory += first.setdefault(pair, answer) != answer
    compared = (count + count.T) > 0
    beats = (count > count.T).astype(np.int64)
    decided = beats + beats.T
    dropped = int(to_drop(pairs, better, asked, said[:, None])[0])
    return Consistency(
        comparisons=int(there.sum()),
        strict=int(strict.sum()),
        triads=int(np.trace(decided @ decided @ decided)) // 6,
        cyclic_triads=int(np.trace(beats @ beats @ beats)) // 3,
        independent_cycles=_circuits(compared),
        repeated=repeated,
        contradictory=contradictory,
        dominance=int(np.sum(better[winner, loser] | better[loser, winner])),
        dominated=int(np.sum(better[loser, winner])),
        to_drop=abs(dropped),
        exact=dropped >= 0,
    )


def licence(found: Consistency, alarm: bool, p_value: float | None) -> str | None:
    """Whether a utility may be spoken of: yes, partly, no; None where no answer could have told (docs/honesty.md).

    p_value: how often replicated answers of people as modelled need at least as many dropped, None where unknown.
    """
    if alarm or (p_value is not None and p_value < TOO_RARE):
        return "no"
    if found.to_drop:
        return "partly"
    return "yes" if found.chances else None


def dominates(cards: Floats) -> NDArray[np.bool_]:
    """(Q, Q) at least as good on every attribute, and better on one."""
    gap = cards[:, None] - cards[None]
    better: NDArray[np.bool_] = (np.min(gap, axis=-1) >= 0) & (np.max(gap, axis=-1) > 0)
    return better


@njit(cache=True, nogil=True)
def to_drop(pairs: Ints, better: NDArray[np.bool_], asked: Ints, said: Ints) -> Ints:
    """(P,) fewest answers in circles with each other or dominance, of P columns of answers said (T, P) to asked (T,).

    A minimum feedback arc set by sets of cards (Lawler 1964). Above EXACT_UP_TO cards in circles it is a greedy bound,
    with its sign turned. Dominance itself has no circle and is never dropped.
    """
    num_cards, num = better.shape[0], said.shape[1]
    out = np.zeros(num, np.int64)
    for p in range(num):
        cost = np.zeros((num_cards, num_cards), np.int64)
        for a in range(num_cards):
            for b in range(num_cards):
                if better[a, b]:
                    cost[a, b] = 1_000_000
        for t in range(asked.shape[0]):
            if asked[t] >= 0 and 0 <= said[t, p] < 2:
                side = said[t, p]
                cost[pairs[asked[t], side], pairs[asked[t], 1 - side]] += 1
        cards = _in_circles(cost)
        if cards.shape[0] > EXACT_UP_TO:
            out[p] = -_greedy(cost, cards)
        elif cards.shape[0] > 0:
            out[p] = _fewest(cost, cards)
    return out


@njit(cache=True, nogil=True)
def _in_circles(cost: Ints) -> Ints:
    """The cards that are left when those who beat nobody, or are beaten by nobody, are taken away again and again."""
    num = cost.shape[0]
    alive = np.ones(num, np.bool_)
    changed = True
    while changed:
        changed = False
        for a in range(num):
            if alive[a]:
                wins, losses = False, False
                for b in range(num):
                    if alive[b]:
                        wins |= cost[a, b] > 0
                        losses |= cost[b, a] > 0
                if not (wins and losses):
                    alive[a] = False
                    changed = True
    return np.flatnonzero(alive)


@njit(cache=True, nogil=True)
def _fewest(cost: Ints, cards: Ints) -> int:
    """Least cost of edges that point backwards over all orders of the cards: the best order of every set of them."""
    num = cards.shape[0]
    best = np.full(1 << num, np.iinfo(np.int64).max)
    best[0] = 0
    for placed in range(1 << num):
        for card in range(num):
            if placed >> card & 1:
                continue
            backwards = best[placed]
            for before in range(num):
                if placed >> before & 1:
                    backwards += cost[cards[card], cards[before]]
            after = placed | 1 << card
            best[after] = min(best[after], backwards)
    return best[-1]


@njit(cache=True, nogil=True)
def _greedy(cost: Ints, cards: Ints) -> int:
    """Cost of an order that places next whoever is beaten least by those who are left."""
    num, total = cards.shape[0], 0
    left = np.ones(num, np.bool_)
    for _ in range(num):
        least, next_one = np.iinfo(np.int64).max, 0
        for card in range(num):
            if left[card]:
                beaten = 0
                for other in range(num):
                    if left[other]:
                        beaten += cost[cards[other], cards[card]]
                if beaten < least:
                    least, next_one = beaten, card
        left[next_one] = False
        total += least
    return total


def _circuits(compared: NDArray[np.bool_]) -> int:
    """Edges - vertices + components of an undirected graph."""
    label = np.arange(len(compared))
    while True:
        new = np.min(np.where(compared, label[None], label[:, None]), axis=1)
        new = np.minimum(new, label)
        if (new == label).all():
            break
        label = new
    return int(compared.sum()) // 2 - len(compared) + len(np.unique(label))
