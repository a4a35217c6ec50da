"""What happened to people, in order: their answers and the runs that they saw, with a leading axis of people.

The evidence of an engine that carries the mental model: what somebody believed at an answer follows from the runs
before it and from how much they learn, so the order counts. calib/evidence.py holds beliefs as known numbers instead.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The channels first, in the order of their rationalities; a run is no answer but what people learn from. The best of
# some outcome cards is named as rationally as two of them are compared.
KINDS = ("mode_choice", "accept_override", "comparison", "rating", "stop", "probe", "run", "best_of")
MODE_CHOICE, ACCEPT_OVERRIDE, COMPARISON, RATING, STOP, PROBE, RUN, BEST_OF = range(len(KINDS))
NUM_CHANNELS = 5  # with a rationality


class History(NamedTuple):
    """Entries in order, (N, A, ...); those from `num` on are empty. What a kind does not use is 0."""

    kind: Ints  # (N, A) a number of KINDS
    # scaled attributes: the proposal; card a; the outcome that is rated, seen or, before a stop, predicted
    first: Floats  # (N, A, J)
    second: Floats  # (N, A, J) card b
    # (N, A) the mode chosen, M for the proposal; 0 a, 1 b, 2 about equal; a grade; 1 cut short; a mode; one of `cards`
    option: Ints
    where: Ints  # (N, A) the mode that ran last or -1, of a menu; the attribute, of a probe; how many cards there are
    value: Floats  # (N, A) what was said, of a probe; minutes until a run was cut short or ended
    cards: Floats  # (N, A, K, J) of which the best was named; K may be 0
    num: Ints  # (N,)

    @property
    def num_answers(self) -> Ints:
        """(N,) entries, runs among them: what an engine counts that takes them in one by one."""
        return self.num

    def of(self, low: int, high: int) -> "History":
        """The people from `low` up to `high`."""
        return History(*(column[low:high] for column in self))  # type: ignore[arg-type]


def empty(num_people: int, max_rounds: int, num_modes: int, num_attributes: int, num_cards: int = 0) -> History:
    """Nothing yet; room for a choice, a watched run and an answer in every round, with up to `num_cards` cards."""
    return empty_history(num_people, 4 * max_rounds, num_attributes, num_cards)


def empty_history(num_people: int, capacity: int, num_attributes: int, num_cards: int = 0) -> History:
    """Nothing yet; room for `capacity` entries."""
    shape = (num_people, capacity)
    return History(
        kind=np.zeros(shape, np.int64),
        first=np.zeros((*shape, num_attributes)),
        second=np.zeros((*shape, num_attributes)),
        option=np.zeros(shape, np.int64),
        where=np.zeros(shape, np.int64),
        value=np.zeros(shape),
        cards=np.zeros((*shape, num_cards, num_attributes)),
        num=np.zeros(num_people, np.int64),
    )


def add(
    history: History,
    who: NDArray[np.bool_],
    kind: int,
    *,
    first: Floats | None = None,
    second: Floats | None = None,
    option: Ints | None = None,
    where: Ints | None = None,
    value: Floats | None = None,
    in_place: bool = False,
) -> History:
    """With one entry more for those in `who` (N,); first and second (N, J), the rest (N,).

    `in_place` writes into the arrays that are there, for callers that keep no older history.
    """
    rows = np.flatnonzero(who)
    at = history.num[rows]
    new = history if in_place else history._replace(**{k: v.copy() for k, v in history._asdict().items()})
    new.kind[rows, at] = kind
    for column, given in zip(new[1:6], (first, second, option, where, value), strict=True):
        if given is not None:
            column[rows, at] = given[rows]
    new.num[rows] += 1
    return new


def add_choice(
    history: History,
    active: NDArray[np.bool_],
    channel: int,
    options: Floats,
    chosen: Ints,
    proposed: Ints,
    last: Ints,
    in_place: bool = False,
) -> History:
    """With one menu choice more, as in calib/evidence.py. Of options (N, K, J) the proposal alone is known."""
    first = options[:, -1] if channel == ACCEPT_OVERRIDE else None
    return add(history, active, channel, first=first, option=chosen, where=last, in_place=in_place)


def add_run(history: History, active: NDArray[np.bool_], mode: Ints, seen: Floats, in_place: bool = False) -> History:
    """With one run more of mode (N,), -1 where the setting is none, and what was seen (N, J)."""
    return add(history, active & (mode >= 0), RUN, first=seen, option=mode, in_place=in_place)


def add_watched(
    history: History,
    active: NDArray[np.bool_],
    predicted: Floats,
    minutes: Floats,
    cut_short: NDArray[np.bool_],
    in_place: bool = False,
) -> History:
    """With one run more that could have been cut short: what it was predicted to do (N, J), how long it went on."""
    option = cut_short.astype(np.int64)
    return add(history, active, STOP, first=predicted, option=option, value=minutes, in_place=in_place)


def add_probe(
    history: History, active: NDArray[np.bool_], mode: Ints, attribute: Ints, said: Floats, in_place: bool = False
) -> History:
    """With one belief probe more: said (N,) of a mode's attribute, scaled."""
    return add(history, active, PROBE, option=mode, where=attribute, value=said, in_place=in_place)


def add_comparison(
    history: History, active: NDArray[np.bool_], a: Floats, b: Floats, chosen: Ints, in_place: bool = False
) -> History:
    """With one comparison of outcome cards more. a, b (N, J); chosen (N,) 0 a, 1 b, 2 about equal."""
    return add(history, active, COMPARISON, first=a, second=b, option=chosen, in_place=in_place)


def add_best_of(
    history: History, active: NDArray[np.bool_], cards: Floats, chosen: Ints, in_place: bool = False
) -> History:
    """With one choice of the best of some outcome cards more. cards (N, K, J); chosen (N,) among K."""
    rows, num = np.flatnonzero(active), cards.shape[1]
    at, size = history.num[rows], np.full(len(chosen), num)
    new = add(history, active, BEST_OF, option=chosen, where=size, in_place=in_place)
    new.cards[rows, at, :num] = cards[rows]
    return new


def add_rating(
    history: History, active: NDArray[np.bool_], seen: Floats, grade: Ints, in_place: bool = False
) -> History:
    """With one rating more: the outcome that was seen (N, J), and its grade (N,) from 0."""
    return add(history, active, RATING, first=seen, option=grade, in_place=in_place)
