"""A robot's clock beside the host's: its interval covers the truth whatever the delays, and is no wider than they."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.clock import Clock, ClockJumped, offset_of

PPM = 1e-6


def exchanges_of(
    rng: np.random.Generator, num: int, offset: float, drift: float, out_s: float, back_s: float
) -> np.ndarray:
    """num exchanges in a minute: each way takes 1 ms and an exponential delay of its own."""
    sent = 1000.0 + np.sort(rng.uniform(0, 60, num))
    stamped = sent + 1e-3 + rng.exponential(out_s, num)
    stamp = stamped + offset + drift * (stamped - 1060.0)
    return np.column_stack([sent, stamp, stamped + 1e-3 + rng.exponential(back_s, num)])


def test_the_interval_covers_a_fast_clock_behind_unlike_delays() -> None:
    """+200 ppm, 2 ms out and 12 ms back on the mean, stamps in whole ms: in 200 trials of 200, and within 4 ms."""
    rng, width = np.random.default_rng(1), []
    for _ in range(200):
        offset = rng.uniform(-1e4, 1e4)
        exchanges = exchanges_of(rng, 60, offset, 200 * PPM, 0.002, 0.012)
        exchanges[:, 1] = np.floor(exchanges[:, 1] * 1e3) / 1e3
        found = offset_of(exchanges, 1060.0, resolution_s=1e-3)
        assert found.offset_s.low <= offset <= found.offset_s.high
        assert found.drift.low <= 200 * PPM <= found.drift.high
        width.append(found.offset_s.high - found.offset_s.low)
    assert np.median(width) < 0.006, "two ways of a millisecond, the stamp's resolution, and what delays leave open"


@given(st.floats(-1e6, 1e6), st.floats(-5e-3, 5e-3), st.floats(0, 0.1), st.floats(0, 0.1), st.integers(1, 20))
def test_the_truth_is_never_outside(offset: float, drift: float, out_s: float, back_s: float, num: int) -> None:
    exchanges = exchanges_of(np.random.default_rng(num), num, offset, drift, out_s, back_s)
    found = offset_of(exchanges, 1060.0)
    slack = 1e-6  # of the solver
    assert found.offset_s.low - slack <= offset <= found.offset_s.high + slack
    assert found.drift.low - slack <= drift <= found.drift.high + slack


def test_one_exchange_says_as_much_as_it_can() -> None:
    found = offset_of([(10.0, 110.004, 10.01)], 10.0, max_drift=0.0)
    assert found.offset_s == pytest.approx((99.999, 99.994, 100.004))
    assert found.drift == (0.0, 0.0, 0.0)


def test_a_clock_that_was_set_is_said() -> None:
    with pytest.raises(ClockJumped, match="restarted"):
        offset_of([(10.0, 10.0, 10.01), (20.0, 5.0, 20.01)], 20.0)


@pytest.mark.parametrize("rows", [[], [(2.0, 1.0, 1.0)], [(0.0, float("nan"), 1.0)]])
def test_what_is_no_exchange_is_refused(rows: list[tuple[float, float, float]]) -> None:
    with pytest.raises(ValueError, match="sent before came"):
        offset_of(rows, 0.0)


def test_of_many_exchanges_the_quick_ones_are_kept() -> None:
    """A thousand of them answer as well as all, and are not kept."""
    clock, rows = Clock(), exchanges_of(np.random.default_rng(2), 1000, 3.0, 50 * PPM, 0.01, 0.01)
    assert clock.offset(0.0) is None
    for row in rows:
        clock.add(*map(float, row))
    some, every = clock.offset(1060.0), offset_of(rows, 1060.0)
    assert some is not None and some.exchanges <= 256
    assert some.offset_s.low <= 3.0 <= some.offset_s.high
    assert some.offset_s.high - some.offset_s.low < 2.5 * (every.offset_s.high - every.offset_s.low)
    clock.forget()
    assert clock.offset(0.0) is None
