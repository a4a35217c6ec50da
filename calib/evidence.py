"""What people answered, as the likelihood needs it: fixed arrays with a leading axis of people."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib import history
from calib.history import RUN, History
from calib.kernel import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


CHANNELS = ("mode_choice", "accept_override", "comparison", "best_of")


class Evidence(NamedTuple):
    """Answers in order, (N, A, ...); entries from `num_answers` on are empty.

    features (N, A, K, J): scaled attributes of each option, as believed for menus, as shown for outcome cards.
    """

    features: Floats
    recommended: Floats  # (N, A, K), 1 where the option was proposed by the machine
    last: Floats  # (N, A, K), 1 where the option ran last
    num_options: Ints  # (N, A)
    channel: Ints  # (N, A), the number of a channel in CHANNELS
    chosen: Ints  # (N, A): option; in a comparison 0 is a, 1 is b, 2 is about equal
    num_answers: Ints  # (N,)

    def of(self, low: int, high: int) -> "Evidence":
        """The people from `low` up to `high`."""
        return Evidence(*(column[low:high] for column in self))  # type: ignore[arg-type]

    def since(self, person: int, first: int) -> "Evidence":
        """One person's answers from number `first` on."""
        own = slice(person, person + 1)
        columns = [column[own, first:] for column in self[:-1]]
        return Evidence(*columns, num_answers=self.num_answers[own] - first)  # type: ignore[arg-type, misc]


def empty(num_people: int, max_rounds: int, num_modes: int, num_attributes: int, num_cards: int = 0) -> Evidence:
    """No answers yet; room for a choice among the modes and a proposal, and for a comparison of two cards or the best
    of `num_cards`, in every round."""
    return empty_evidence(num_people, 2 * max_rounds, max(num_modes + 1, num_cards), num_attributes)


def empty_evidence(num_people: int, capacity: int, num_options: int, num_attributes: int) -> Evidence:
    """No answers yet; room for `capacity` of them."""
    shape = (num_people, capacity)
    return Evidence(
        features=np.zeros((*shape, num_options, num_attributes)),
        recommended=np.zeros((*shape, num_options)),
        last=np.zeros((*shape, num_options)),
        num_options=np.zeros(shape, np.int64),
        channel=np.zeros(shape, np.int64),
        chosen=np.zeros(shape, np.int64),
        num_answers=np.zeros(num_people, np.int64),
    )


def add_choice(
    evidence: Evidence,
    active: NDArray[np.bool_],
    channel: int,
    options: Floats,
    chosen: Ints,
    proposed: Ints,
    last: Ints,
    in_place: bool = False,
) -> Evidence:
    """With one menu choice more. options (N, K, J); proposed and last (N,) are option numbers, -1 for none.

    `in_place` writes into the arrays that are there, for callers that keep no older evidence.
    """
    new = evidence if in_place else _copy(evidence)
    num_options = options.shape[1]
    for i in active.nonzero()[0].tolist():
        at = new.num_answers[i]
        new.features[i, at, :num_options] = options[i]
        if proposed[i] >= 0:
            new.recommended[i, at, proposed[i]] = 1.0
        if last[i] >= 0:
            new.last[i, at, last[i]] = 1.0
        new.num_options[i, at] = num_options
        new.channel[i, at] = channel
        new.chosen[i, at] = chosen[i]
        new.num_answers[i] = at + 1
    return new


def add_run(
    evidence: Evidence, active: NDArray[np.bool_], mode: Ints, seen: Floats, in_place: bool = False
) -> Evidence:
    """The same: what a run did to the options as believed is in the features of the answers after it."""
    return evidence


def add_probe(
    evidence: Evidence, active: NDArray[np.bool_], mode: Ints, attribute: Ints, said: Floats, in_place: bool = False
) -> Evidence:
    """The same: beliefs count as known."""
    return evidence


def add_comparison(
    evidence: Evidence, active: NDArray[np.bool_], a: Floats, b: Floats, chosen: Ints, in_place: bool = False
) -> Evidence:
    """With one comparison of outcome cards more. a, b (N, J); chosen (N,) 0 a, 1 b, 2 about equal."""
    new = evidence if in_place else _copy(evidence)
    for i in active.nonzero()[0].tolist():
        at = new.num_answers[i]
        new.features[i, at, 0] = a[i]
        new.features[i, at, 1] = b[i]
        new.num_options[i, at] = 2
        new.channel[i, at] = COMPARISON
        new.chosen[i, at] = chosen[i]
        new.num_answers[i] = at + 1
    return new


def add_best_of(
    evidence: Evidence, active: NDArray[np.bool_], cards: Floats, chosen: Ints, in_place: bool = False
) -> Evidence:
    """With one choice of the best of some outcome cards more. cards (N, K, J); chosen (N,) among K."""
    none = np.full(len(chosen), -1)
    return add_choice(evidence, active, BEST_OF, cards, chosen, none, none, in_place)


def add_rating(
    evidence: Evidence, active: NDArray[np.bool_], seen: Floats, grade: Ints, in_place: bool = False
) -> Evidence:
    """The same: nothing is known of what people aspire to."""
    return evidence


def as_believed(told: History, expectation: Floats, learning: Floats) -> Evidence:
    """The answers of a history as of people who expect (M, J) at first and learn at rates (J,) from what they see."""
    (num, capacity), (num_modes, num_attributes) = told.kind.shape, expectation.shape
    out = empty_evidence(num, capacity, max(num_modes + 1, told.cards.shape[2]), num_attributes)
    none = np.array([-1])
    for i in range(num):
        own, f_hat, active = out.of(i, i + 1), expectation.copy(), np.array([True])
        for a in range(int(told.num[i])):
            kind, option, last = (column[i, a : a + 1] for column in (told.kind, told.option, told.where))
            first, second = told.first[i, a : a + 1], told.second[i, a : a + 1]
            if kind[0] == RUN:
                f_hat[option[0]] += learning * (first[0] - f_hat[option[0]])
            elif kind[0] == history.COMPARISON:
                add_comparison(own, active, first, second, option, in_place=True)
            elif kind[0] == history.BEST_OF:
                add_best_of(own, active, told.cards[i : i + 1, a, : last[0]], option, in_place=True)
            elif kind[0] == history.MODE_CHOICE:
                add_choice(own, active, MODE_CHOICE, f_hat[None], option, none, last, in_place=True)
            elif kind[0] == history.ACCEPT_OVERRIDE:
                offered, proposal = np.concatenate([f_hat, first])[None], np.array([num_modes])
                add_choice(own, active, ACCEPT_OVERRIDE, offered, option, proposal, last, in_place=True)
    return out


def _copy(evidence: Evidence) -> Evidence:
    return evidence._replace(**{name: column.copy() for name, column in evidence._asdict().items()})
