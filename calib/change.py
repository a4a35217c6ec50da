"""Whether a person's intent has changed, and since when: a bank of beliefs, each with a last change of its own.

Before each round but the first the intent may be drawn anew (build_changing_model in calib/model.py). Hypothesis k says
that this last happened before round k, and holds an engine's belief from the answers since; it is weighted by how
probable it made every answer before it was given (Adams and MacKay 2007; Fearnhead and Liu 2007). Answers before k
tell it the manner of answering, which is kept.

Approximate are: what k is told of the manner (mean and sd of each coordinate, at its birth), the finite particles, and
that the least probable hypotheses are dropped. A person's bank is a plain tuple of few; loops over people are here.
"""

from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib import live
from calib.engines import load_engine
from calib.evidence import Evidence
from calib.setup import Setup
from calib.state import Asked, Bank, Hypothesis, State

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Masks = NDArray[np.bool_]

CHANGED, MISREAD, UNSURE = range(3)
ANSWERS = ("changed", "misread", "unsure")
_STREAM = 32  # a hypothesis draws from the stream of person + (its first round - 1) << _STREAM


class Taken(NamedTuple):
    """After a round's answers."""

    belief: Any  # the engine's, of everybody: the mixture
    diagnostics: live.Diagnostics  # of the most probable hypothesis
    banks: tuple[Bank, ...]
    probability: Floats  # (N, 3, K) of every option before they were given, as in calib.state.Predicted, and
    answer: Ints  # (N, 3) the answers


def start(setup: Setup, belief: Any, num: int) -> tuple[Bank, ...] | None:
    """Everybody's bank before the first round; None where intent is taken to stay, or is known."""
    if setup.scenario.change is None or not hasattr(load_engine(setup.engine), "anew"):
        return None
    nothing = np.zeros((2, setup.num_attributes))
    return tuple(Bank((Hypothesis(1, 0, 0.0, setup, _of(belief, i), nothing),)) for i in range(num))


def take_in(setup: Setup, state: State) -> Taken:
    """The banks after the new answers of a round."""
    engine, num = load_engine(setup.engine), len(state.people)
    banks = list(_banks(state))
    diagnostics = live.Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num))
    probability, answer = np.zeros((num, 3, setup.most_options)), np.full((num, 3), -1)

    def work(low: int, high: int) -> None:
        for i in range(low, high):
            if state.active[i] and state.evidence.num_answers[i] > state.in_belief[i]:
                banks[i], effort, probability[i], answer[i] = _taken_in(setup, engine, state, i)
                for column, value in zip(diagnostics, effort, strict=True):
                    column[i] = value[0]

    live.over_people(work, num)
    return Taken(_mixture(engine, banks), diagnostics, tuple(banks), probability, answer)


def _taken_in(setup: Setup, engine: ModuleType, state: State, i: int) -> tuple[Bank, live.Diagnostics, Floats, Ints]:
    """Person i's bank after the new answers; what the most probable hypothesis had to do for them; and how probable
    every option (3, K) of them was before they were given, and they themselves (3,)."""
    change = setup.scenario.change
    assert change is not None
    bank = _advanced(setup, engine, state, i, change.hazard)
    found = [engine.predict(h.setup, _told(state, i, h)) for h in bank.hypotheses]
    answer, p = found[0].answer[0], np.stack([one.probability[0] for one in found])  # (3,), (H, 3, K)
    given, share = _given(p, answer), np.exp([h.log_p for h in bank.hypotheses])
    later = share * given[:, 0]
    probability = np.stack([_mean(share, p[:, 0]), _mean(later, p[:, 1]), _mean(later, p[:, 2])])
    gain = np.log(given[:, 0]) + np.log(given[:, 1]) + np.log(given[:, 2])
    weighed = [replace(h, log_p=h.log_p + float(g)) for h, g in zip(bank.hypotheses, gain, strict=True)]
    kept = _pruned(weighed, bank.settled, change.hypotheses)
    likeliest = int(np.argmax([h.log_p for h in kept]))
    efforts = []
    for n, h in enumerate(kept):
        belief, effort = engine.take_in(h.setup, _told(state, i, h))
        kept[n] = replace(h, belief=belief)
        efforts.append(effort)
    bank = replace(bank, hypotheses=tuple(kept))
    if bank.volunteered:
        bank = replace(_conditioned(bank, CHANGED, change.answer_error), settled=state.round, volunteered=False)
    return bank, efforts[likeliest], probability, answer


def _advanced(setup: Setup, engine: ModuleType, state: State, i: int, hazard: float) -> Bank:
    """Person i's bank with the hypothesis that the intent has changed before the round under way."""
    bank = _banks(state)[i]
    if state.round <= 1:
        return bank
    mixed = _of(state.belief, i)
    fresh, belief = engine.anew(setup, mixed, np.array([state.people[i] + ((state.round - 1) << _STREAM)]))
    before = _moments(setup, mixed)
    born = Hypothesis(state.round, int(state.in_belief[i]), float(np.log(hazard)), fresh, belief, before)
    kept = [replace(h, log_p=h.log_p + float(np.log1p(-hazard))) for h in bank.hypotheses]
    return replace(bank, hypotheses=(*kept, born))


def _pruned(hypotheses: list[Hypothesis], settled: int, most: int) -> list[Hypothesis]:
    """The `most` most probable, normalised. The best of those without an unsettled change stays: who is asked may say
    that nothing has changed."""
    order = sorted(range(len(hypotheses)), key=lambda n: -hypotheses[n].log_p)
    old = next(n for n in order if hypotheses[n].first <= max(settled, 1))
    chosen = sorted({*order[: most - (old not in order[:most])], old})
    return _normalised([hypotheses[n] for n in chosen])


def p_changed(bank: Bank) -> float:
    """P(the intent has changed since it was last settled)."""
    return float(sum(np.exp(h.log_p) for h in bank.hypotheses if h.first > max(bank.settled, 1)))


def likely(bank: Bank) -> Hypothesis | None:
    """The most probable hypothesis with a change since it was last settled; None where there is none."""
    since = [h for h in bank.hypotheses if h.first > max(bank.settled, 1)]
    return max(since, key=lambda h: h.log_p) if since else None


def asks(setup: Setup, state: State) -> Masks:
    """(N,) whether to ask the person now: did you change what you want, or did I misread you?"""
    change, found = setup.scenario.change, np.zeros(len(state.people), bool)
    if change is None or state.change is None:
        return found
    for i, bank in enumerate(state.change):
        last = bank.asked[-1].round if bank.asked else 0
        found[i] = state.round - last >= change.every and p_changed(bank) >= change.ask_at
    return found & state.active


def answered(setup: Setup, state: State, answer: Ints) -> State:
    """After the answer (N,), a number of ANSWERS, of those who were asked: their banks and beliefs on condition of it.

    What stands and the degree are not measured again here.
    """
    change, banks = setup.scenario.change, list(_banks(state))
    assert change is not None
    for i in np.flatnonzero(asks(setup, state)):
        bank, said, most = banks[i], int(answer[i]), likely(banks[i])
        assert most is not None
        asked = Asked(state.round, bank.settled, p_changed(bank), most.first, said)
        if said != UNSURE:
            bank = replace(_conditioned(bank, said, change.answer_error), settled=state.round)
        banks[i] = replace(bank, asked=(*bank.asked, asked))
    return replace(state, change=tuple(banks), belief=_mixture(load_engine(setup.engine), banks))


def volunteered(state: State) -> State:
    """After a person, of a batch of one, has said that they want something else now."""
    if state.change is None:
        return state
    return replace(state, change=tuple(replace(bank, volunteered=True) for bank in state.change))


def _conditioned(bank: Bank, answer: int, error: float) -> Bank:
    """The hypotheses on condition of an answer that is wrong with probability `error`; what cannot be is dropped."""
    kept = []
    for h in bank.hypotheses:
        agrees = (h.first > max(bank.settled, 1)) == (answer == CHANGED)
        if agrees or error > 0:
            kept.append(replace(h, log_p=h.log_p + float(np.log(1 - error if agrees else error))))
    return replace(bank, hypotheses=tuple(_normalised(kept or list(bank.hypotheses))))


def shown(state: State) -> dict[str, Any]:
    """What the person is asked: about changes after the round `since`, 0 for the whole session."""
    return {"since": _banks(state)[0].settled, "answers": list(ANSWERS)}


def document(setup: Setup, state: State, person: int = 0) -> dict[str, Any]:
    """What is believed of a change after a round, and the question if it was asked in it; JSON values."""
    bank = _banks(state)[person]
    most, last = likely(bank), bank.asked[-1] if bank.asked else None
    return {
        "since": bank.settled,
        "p_changed": p_changed(bank),
        "likely": None if most is None else most.first,
        "before": None if most is None else _weights(setup, most.before),
        "after": None if most is None else _weights(setup, _moments(setup, most.belief)),
        "hypotheses": {str(h.first): float(np.exp(h.log_p)) for h in bank.hypotheses},
        "asked": None
        if last is None or last.round != state.round
        else {**last._asdict(), "answer": ANSWERS[last.answer]},
    }


def _weights(setup: Setup, moments: Floats) -> dict[str, Any]:
    names = [a.name for a in setup.scenario.attributes]
    return {name: {"mean": float(m), "sd": float(s)} for name, m, s in zip(names, *moments, strict=True)}


def _moments(setup: Setup, belief: Any) -> Floats:
    """(2, J) mean and sd of the weights."""
    w = live.intent(belief, setup.num_attributes)[0]
    return np.stack([w.mean(axis=1), w.std(axis=1)])


def _banks(state: State) -> tuple[Bank, ...]:
    assert state.change is not None
    return state.change


def _mixture(engine: ModuleType, banks: list[Bank]) -> Any:
    """Everybody's belief, whenever the last change was."""
    each = []
    for bank in banks:
        share = np.exp([h.log_p for h in bank.hypotheses])
        each.append(engine.pooled([h.belief for h in bank.hypotheses], share))
    return type(each[0])(*(np.concatenate(columns) for columns in zip(*each, strict=True)))


def _told(state: State, i: int, h: Hypothesis) -> State:
    """The state of person i alone, as the engine sees it under a hypothesis: the answers since."""
    kept = state.evidence
    assert isinstance(kept, Evidence)
    return replace(
        state,
        people=np.array([state.people[i] + ((h.first - 1) << _STREAM)]),
        active=np.array([True]),
        evidence=kept.since(i, h.entries),
        in_belief=state.in_belief[i : i + 1] - h.entries,
        belief=h.belief,
    )


def _of(belief: Any, i: int) -> Any:
    """Person i's part of an engine's belief."""
    return type(belief)(*(column[i : i + 1] for column in belief))


def _given(probability: Floats, answer: Ints) -> Floats:
    """(H, 3) probability (H, 3, K) of the answers (3,), 1 where there is none."""
    at = np.maximum(answer, 0)[None, :, None]
    taken = np.take_along_axis(probability, np.broadcast_to(at, (len(probability), 3, 1)), axis=2)[:, :, 0]
    return np.where(answer >= 0, taken, 1.0)


def _mean(share: Floats, values: Floats) -> Floats:
    """(K,) of values (H, K), added up in order."""
    return np.cumsum(share[:, None] * values, axis=0)[-1] / np.cumsum(share)[-1]


def _normalised(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    log_p = np.array([h.log_p for h in hypotheses])
    whole = float(log_p.max() + np.log(np.sum(np.exp(log_p - log_p.max()))))
    return [replace(h, log_p=h.log_p - whole) for h in hypotheses]
