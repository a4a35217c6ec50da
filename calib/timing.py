"""Time to alignment: the four versions of definitions 5 from what was recorded by round. Pure, on arrays of people.

Event codes: 1 aligned, 2 gave up, 3 device failure, 0 administrative end.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ALIGNED, GAVE_UP, DEVICE_FAILURE, ADMINISTRATIVE = 1, 2, 3, 0
EVENT_OF_REASON = {"gave_up": GAVE_UP, "device_failure": DEVICE_FAILURE}


class Times(NamedTuple):
    """Event code and rounds, (N,) each."""

    event: Ints
    rounds: Ints


def sustained(aligned: NDArray[np.bool_], last_round: Ints, horizon: int, ended: Ints) -> Times:
    """First t with `aligned` in all of [t, t + h], confirmed at t + h <= last_round.

    aligned (N, T + 1), index 0 is before the first round and does not count; last_round (N,) completed rounds; ended
    (N,) the event code of the end. At an administrative end the unconfirmed are censored at last_round - h, at a
    competing event they leave at their last round. Nobody is watched beyond T - h, where alignment can no more be
    confirmed: whoever leaves later is censored there, else only those who leave would be at risk at the end.
    """
    num, width = aligned.shape
    first = np.zeros(num, np.int64)
    for t in range(width - 1 - horizon, 0, -1):
        stays = aligned[:, t : t + horizon + 1].all(axis=1) & (t + horizon <= last_round)
        first[stays] = t
    return _times(first, np.maximum(last_round - horizon, 0), last_round, ended, max(width - 1 - horizon, 0))


def accepted(answers: NDArray[np.int8], last_round: Ints, horizon: int, ended: Ints, ends_session: bool) -> Times:
    """First "good enough" not taken back within h rounds; answers (N, T + 1), -1 not asked.

    A "no" within h rounds takes it back. Where the session was still going on after it, it stands once h further rounds
    have passed. Where the protocol ends a session on it (ends_session) it stands at once: then nothing waits for
    confirmation, and people are watched to the last round as for `declared`, else as for `sustained`.
    """
    num, width = answers.shape
    first = np.zeros(num, np.int64)
    for t in range(width - 1, 0, -1):
        later = answers[:, t + 1 : t + horizon + 1]
        said = (answers[:, t] == 1) & ~(later == 0).any(axis=1) & (t <= last_round)
        stands = (t + horizon <= last_round) | (ends_session & (t == last_round))
        first[said & stands] = t
    waits = 0 if ends_session else horizon
    return _times(first, np.maximum(last_round - waits, 0), last_round, ended, max(width - 1 - waits, 0))


def declared(p_aligned: Floats, last_round: Ints, delta: float, ended: Ints) -> Times:
    """First t with P(A >= 1 - eps) >= 1 - delta; p_aligned (N, T + 1), nan where not measured."""
    num, width = p_aligned.shape
    first = np.zeros(num, np.int64)
    for t in range(width - 1, 0, -1):
        first[(p_aligned[:, t] >= 1 - delta) & (t <= last_round)] = t
    return _times(first, last_round, last_round, ended, width - 1)


def _times(first: Ints, censored_at: Ints, last_round: Ints, ended: Ints, watched_to: int) -> Times:
    too_late = (ended != ADMINISTRATIVE) & (last_round > watched_to)
    ended = np.where(too_late, ADMINISTRATIVE, ended)
    censored_at = np.where(too_late, watched_to, censored_at)
    event = np.where(first > 0, ALIGNED, ended)
    rounds = np.where(first > 0, first, np.where(ended == ADMINISTRATIVE, censored_at, last_round))
    return Times(event, rounds)
