"""Definitions 5 as tables of cases, and every version against a reference in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.timing import accepted, declared, sustained

ADMIN, GAVE_UP, FAILED = 0, 2, 3


def row(text: str) -> list[str]:
    return text.split()


# aligned by round from round 1 (1 aligned, . not; after | what would have come), h, end code -> event, rounds
TRUE_CASES = {
    "confirmed h rounds later": (". 1 1 1", 2, ADMIN, (1, 2)),
    "from the first round": ("1 1 1 .", 2, ADMIN, (1, 1)),
    "not yet confirmed at the end": (". . 1 1", 2, ADMIN, (0, 2)),
    "the first hit alone does not count": ("1 . 1 1 1", 2, ADMIN, (1, 3)),
    "lost again within h": ("1 1 . .", 2, ADMIN, (0, 2)),
    "lost after h": ("1 1 1 . .", 2, ADMIN, (1, 1)),
    "never": (". . . .", 2, ADMIN, (0, 2)),
    "horizon 0 is the first hit": (". 1 .", 0, ADMIN, (1, 2)),
    "censored at C - h, never below 0": (". 1", 3, ADMIN, (0, 0)),
    "gave up unaligned: at the last round": (". . . . | . . .", 2, GAVE_UP, (2, 4)),
    "gave up before it was confirmed": (". . 1 1 | . .", 2, GAVE_UP, (2, 4)),
    "gave up when nothing could be confirmed any more": (". . . . | .", 2, GAVE_UP, (0, 3)),
    "gave up after it was confirmed": (". 1 1 1 .", 2, GAVE_UP, (1, 2)),
    "device failed": (". 1 1 | . .", 2, FAILED, (3, 3)),
    "device failed before the first round ended": ("| . .", 2, FAILED, (3, 0)),
    "device failed too late": (". . 1 |", 2, FAILED, (0, 1)),
}


@pytest.mark.parametrize("name", TRUE_CASES)
def test_true_time(name: str) -> None:
    text, horizon, ended, expected = TRUE_CASES[name]
    rounds, rest = (row(part) for part in (text + "|").split("|")[:2])
    aligned = np.array(
        [[True, *(c == "1" for c in rounds), *(True for _ in rest)]]
    )  # round 0 and the rest do not count
    times = sustained(aligned, np.array([len(rounds)]), horizon, np.array([ended]))
    assert (times.event[0], times.rounds[0]) == expected


# answers by round from round 1 (y, n, . not asked; | as above), h, end code, a yes ends the session -> event, rounds
ACCEPTED_CASES = {
    "stands after h further rounds": (". y . n", 1, ADMIN, 0, (1, 2)),
    "taken back within h": (". y . n . .", 2, ADMIN, 0, (0, 4)),
    "taken back on the last round of h": (". y n . .", 1, ADMIN, 0, (0, 4)),
    "said again": (". y . n . y . y", 2, ADMIN, 0, (1, 6)),
    "confirmed by a second yes": (". y . y", 2, ADMIN, 0, (1, 2)),
    "said on the last round, the session ran out": (". n . y", 2, ADMIN, 0, (0, 2)),
    "ended by it": (". n . y", 2, ADMIN, 1, (1, 4)),
    "never said where it would have ended the session": (". n . n", 2, ADMIN, 1, (0, 4)),
    "gave up late where it would have ended the session": (". n .", 2, GAVE_UP, 1, (2, 3)),
    "never asked": (". . .", 2, ADMIN, 0, (0, 1)),
    "gave up after a no": (". n . | . .", 2, GAVE_UP, 0, (2, 3)),
    "gave up too late after a no": (". n . |", 2, GAVE_UP, 0, (0, 1)),
    "gave up right after a yes": (". y . | . .", 2, GAVE_UP, 0, (2, 3)),
    "device failed after it stood": (". y . .", 2, FAILED, 0, (1, 2)),
}


@pytest.mark.parametrize("name", ACCEPTED_CASES)
def test_accepted_time(name: str) -> None:
    text, horizon, ended, ends_session, expected = ACCEPTED_CASES[name]
    rounds, rest = (row(part) for part in (text + "|").split("|")[:2])
    answers = np.array([[-1, *({"y": 1, "n": 0, ".": -1}[c] for c in [*rounds, *rest])]], dtype=np.int8)
    times = accepted(answers, np.array([len(rounds)]), horizon, np.array([ended]), bool(ends_session))
    assert (times.event[0], times.rounds[0]) == expected


# P(aligned) by round from round 1, end code -> event, rounds, with delta = 0.1
DECLARED_CASES = {
    "first time at 1 - delta": ("0.5 0.9 0.3", ADMIN, (1, 2)),
    "no horizon": ("0.2 0.2 0.95", ADMIN, (1, 3)),
    "never: censored at the end": ("0.2 0.89 0.2", ADMIN, (0, 3)),
    "gave up": ("0.2 0.2", GAVE_UP, (2, 2)),
    "declared, then gave up": ("0.2 0.9 0.2", GAVE_UP, (1, 2)),
    "not measured": ("nan nan", FAILED, (3, 2)),
}


@pytest.mark.parametrize("name", DECLARED_CASES)
def test_declared_time(name: str) -> None:
    text, ended, expected = DECLARED_CASES[name]
    values = [float(v) for v in row(text)]
    p = np.array([[1.0, *values, 1.0]])  # the prior alone declares nothing, nor what lies after the end
    times = declared(p, np.array([len(values)]), 0.1, np.array([ended]))
    assert (times.event[0], times.rounds[0]) == expected


def fallback(ended: int, last: int, horizon: int, width: int) -> tuple[int, int]:
    if ended == ADMIN:
        return ADMIN, max(last - horizon, 0)
    watched_to = max(width - horizon, 0)
    return (ended, last) if last <= watched_to else (ADMIN, watched_to)


def plain_sustained(aligned: list[bool], last: int, horizon: int, ended: int) -> tuple[int, int]:
    for t in range(1, last + 1):
        if t + horizon <= last and all(aligned[t + k] for k in range(horizon + 1)):
            return 1, t
    return fallback(ended, last, horizon, len(aligned) - 1)


def plain_accepted(answers: list[int], last: int, horizon: int, ended: int, ends_session: bool) -> tuple[int, int]:
    for t in range(1, last + 1):
        taken_back = any(answers[u] == 0 for u in range(t + 1, min(t + horizon, last) + 1))
        if answers[t] == 1 and not taken_back and (t + horizon <= last or (ends_session and t == last)):
            return 1, t
    return fallback(ended, last, 0 if ends_session else horizon, len(answers) - 1)


@settings(max_examples=500, deadline=None)
@given(data=st.data(), width=st.integers(1, 12), horizon=st.integers(0, 5), num=st.integers(1, 4))
def test_every_version_is_its_definition(data: st.DataObject, width: int, horizon: int, num: int) -> None:
    last = [data.draw(st.integers(0, width)) for _ in range(num)]
    ended = [data.draw(st.sampled_from((ADMIN, GAVE_UP, FAILED))) for _ in range(num)]
    column = st.lists(st.integers(-1, 1), min_size=width + 1, max_size=width + 1)
    answers = [data.draw(column) for _ in range(num)]
    for answer, n in zip(answers, last, strict=True):  # nobody answers after the end
        answer[n + 1 :] = [-1] * (width - n)
    ends_session = data.draw(st.booleans())
    aligned = [[v == 1 for v in data.draw(column)] for _ in range(num)]
    ends = np.array(last), horizon, np.array(ended)
    t = sustained(np.array(aligned), *ends)
    a = accepted(np.array(answers, np.int8), *ends, ends_session)
    p = np.where(aligned, 0.95, 0.5)
    d = declared(p, np.array(last), 0.1, np.array(ended))
    for i in range(num):
        assert (t.event[i], t.rounds[i]) == plain_sustained(aligned[i], last[i], horizon, ended[i])
        assert (a.event[i], a.rounds[i]) == plain_accepted(answers[i], last[i], horizon, ended[i], ends_session)
        first = next((r for r in range(1, last[i] + 1) if aligned[i][r]), None)
        expected = (1, first) if first else fallback(ended[i], last[i], 0, width)
        assert (d.event[i], d.rounds[i]) == expected
