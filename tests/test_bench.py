"""The bench's ends of the pipe with a peer that asks at random, what it makes of the replies, and its measures."""

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.exactness import apart
from bench.matched import survey
from bench.peers import __main__ as peers
from bench.peers.driver import Asked, Here, Ours, Pool, Process, arrays_of, ask_person, standing_of
from bench.peers.environment import NotInstalled, Peer, python_of
from bench.reference import reference_kernel, sgemm
from calib import alignment, live
from calib.scenario import Scenario
from calib.setup import Setup
from experiments.batch import simulate_sessions
from experiments.people import rational
from experiments.truth import draw_truth

Make = Callable[..., Setup]
SCRIPT = Path(__file__).parent / "silent_peer.py"


def pool_of(setup: Setup, kind: str) -> Pool:
    triples = np.array(list(itertools.combinations(range(len(setup.cards)), 3)))
    return Pool(setup, kind, setup.pairs if kind == "pairs" else triples)


@pytest.fixture
def make_peer(tmp_path: Path) -> Iterator[Callable[[Pool], Process]]:
    """A process that is let end."""
    started = []

    def make(pool: Pool) -> Process:
        np.savez(tmp_path / "setup.npz", **arrays_of(pool, 32))
        setup = {"setup": str(tmp_path / "setup.npz"), "kind": pool.kind, "seed": 1}
        started.append(Process([sys.executable, SCRIPT], setup))
        return started[-1]

    yield make
    for process in started:
        process.close()
        assert process.process.returncode == 0


@pytest.mark.parametrize("kind", ["pairs", "menus"])
def test_sides_are_asked_in_turns(lab: Make, make_peer: Callable[[Pool], Process], kind: str) -> None:
    """Both are asked every round, answers lie in range, and our side does as it does alone."""
    pool = pool_of(lab(num_particles=64), kind)
    peer = make_peer(pool)
    assert peer.about == {"ready": True, "version": "0", "points": 32, "kind": kind}
    both = ask_person(pool, {"ours": Here(Ours(pool, "information_gain", 64, 4)), "peer": peer}, 3, 4, "round")
    alone = ask_person(pool, {"ours": Here(Ours(pool, "information_gain", 64, 4))}, 3, 4)
    assert np.array_equal(both["ours"].degrees, alone["ours"].degrees)
    assert np.array_equal(both["ours"].answers, alone["ours"].answers)
    for asked in both.values():
        assert set(asked.answers) <= {0, 1, 2}
        assert (asked.seconds > 0).all() and (asked.degrees[1:] <= 1 + 1e-9).all()
    assert len(set(both["peer"].degrees[1:])) == 1  # it never learns


def test_a_peer_that_ends_is_said(lab: Make, tmp_path: Path) -> None:
    script = tmp_path / "short.py"
    script.write_text("import sys; input(); sys.exit(3)")
    with pytest.raises(RuntimeError, match="ended with 3"):
        Process([sys.executable, script], {"setup": ""})


def test_what_a_peer_tells_becomes_the_best_settings(lab: Make) -> None:
    """Slopes over equal points stand as the engine itself would; values are read by setting and context."""
    setup = lab()
    arrays = arrays_of(pool_of(setup, "pairs"), 200)
    w = live.intent(live.start(setup.prior, np.array([0]), setup.seed, 200), setup.num_attributes)
    best = alignment.best_settings(setup, w, alignment.extremes(setup, w))[0]
    assert np.array_equal(standing_of(setup, {"slopes": arrays["slopes"].mean(axis=0).tolist()}), best)
    assert np.array_equal(standing_of(setup, {"standing": best.tolist()}), best)
    values = arrays["outcomes"] @ w[0].mean(axis=1)
    found = standing_of(setup, {"values": values.tolist()})
    by_context = values.reshape(setup.num_reference, setup.num_contexts)
    for x, s in enumerate(found):
        assert setup.feasible[s, x]
        assert by_context[s, x] == by_context[setup.feasible[: setup.num_reference, x], x].max()


def asked(seconds: float, degrees: list[float]) -> Asked:
    rounds = len(degrees)
    return Asked(
        np.full(rounds, seconds), np.full(rounds, seconds), np.array([0, *degrees]), np.zeros(rounds, np.int64)
    )


def test_the_table_of_made_up_sides(lab: Make) -> None:
    """A side twice as slow that aligns a round later."""
    pool = pool_of(lab(), "pairs")  # eps 0.05, horizon 2
    ours = [asked(0.001, [0.5, 0.96, 0.97, 1.0, 1.0, 1.0]), asked(0.001, [0.96, 0.97, 1.0, 0.99, 1.0, 1.0])]
    theirs = [asked(0.002, [0.5, 0.5, 0.97, 1.0, 1.0, 1.0]), asked(0.002, [0.9, 0.97, 1.0, 0.99, 1.0, 1.0])]
    both = {peers.OURS: ours, "theirs": theirs}
    speed = peers.speeds(both, np.random.default_rng(0))["theirs"]
    assert speed["median"] == {"ms": 2.0, "of_ours": {"estimate": 2.0, "low": 2.0, "high": 2.0}}
    found = peers.alignments(pool, both, 6)
    assert found[peers.OURS]["rounds"]["estimate"] == 1.5
    assert found["theirs"]["rounds"]["estimate"] == 2.5
    assert found["theirs"]["more"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
    assert found["theirs"]["aligned"] == 1.0
    document: dict[str, Any] = {"seed": 1, "missing": {"other": "ERROR: no"}}
    document["pairs"] = {"people": 2, "rounds": 6, "restricted_to": 4, "alignment": found}
    document["pairs"]["speeds"] = peers.speeds(both, np.random.default_rng(0))
    lines = peers.told(document)
    assert "| theirs | 2.50 (1.52 to 3.48) | +1.00 (+1.00 to +1.00) | 100% | 0% |" in lines
    assert lines[-1] == "other is not measured: ERROR: no"


@pytest.mark.slow
def test_what_pip_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NotInstalled, match=r"ERROR: .*no-such-folder"):
        python_of(Peer("nobody", ("./no-such-folder",), ""))
    assert not (tmp_path / "calib" / "peers" / "nobody").exists()


def test_the_reference_measures() -> None:
    x, out = np.linspace(0, 1, 1024), np.empty(1024)
    reference_kernel(x, out)
    y = x.copy()
    for _ in range(100):
        y = y * 0.999 + 0.001
    assert out == pytest.approx(np.exp(-y), rel=1e-12)
    seconds, operations = sgemm(64)
    assert seconds > 0 and operations == 2 * 64**3


def test_people_may_come_from_another_population_than_the_prior(lab: Callable[..., Setup], small: Scenario) -> None:
    """The same people are asked under every prior, and their survey is answered by others of theirs."""
    alike = replace(small, population=replace(small.population, concentration=(40.0, 40.0, 40.0)))
    true, wide = (lab(scenario=s, engine="bulk", max_rounds=2, num_particles=64) for s in (alike, small))
    sessions = simulate_sessions(wide, rational, {}, np.arange(20), drawn_from=true)
    assert np.array_equal(sessions.truth.weights, draw_truth(true, np.arange(20), {}).weights)
    assert sessions.truth.weights.std(axis=0).max() < 0.08
    choices = survey(true, 30, 40)
    assert len(choices.people) == 30 and choices.num_rows == 2400 and set(choices.chosen) == {0, 1, 2}
    better = np.argmax(choices.values.reshape(-1, 2, 3).mean(axis=2), axis=1)
    told = choices.chosen < 2
    assert np.mean(better[told] == choices.chosen[told]) > 0.7  # all weights are about a third


def test_apart_is_in_units_of_the_reference() -> None:
    reference = np.random.default_rng(0).normal(3.0, 2.0, 40_000)
    found = apart(1.5 * (reference - 3.0) + 4.0, reference)
    assert found["mean"] == pytest.approx(0.5, abs=0.01) and found["sd"] == pytest.approx(0.5)
    assert found["quantile"] == pytest.approx(0.5 + 0.5 * 1.645, abs=0.02), "the upper one is farthest"
    assert apart(reference, reference) == {"mean": 0.0, "sd": 0.0, "quantile": 0.0, "quantiles": [0.0, 0.0, 0.0]}
