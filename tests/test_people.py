"""What the person models beside `rational` do, over many people with a fixed seed."""

from typing import Any

import numpy as np
import pytest

from calib.scenario import load_scenario
from calib.setup import make_setup
from experiments.batch import Sessions, simulate_sessions
from experiments.people import load_person, person_names

NUM = 300


def sessions_of(spec: str, role: str = "tool", max_rounds: int = 8, **changes: Any) -> Sessions:
    """Sessions of 300 people, small beliefs, any question."""
    setup = make_setup(
        load_scenario("apartment"), role=role, policy="random", seed=2, max_rounds=max_rounds, num_particles=64
    )
    model, parameters = load_person(spec)
    return simulate_sessions(setup, model, parameters | changes, np.arange(NUM))


def changes_of_mode(sessions: Sessions) -> float:
    """Share of rounds in which another mode was chosen than in the round before."""
    menus = sessions.state.evidence.chosen[:, ::2][:, :8]
    return float(np.mean(menus[:, 1:] != menus[:, :-1]))


def test_the_shipped_models() -> None:
    assert {"rational", "impatient", "lapsing", "inert", "forgetful", "satisficing"} <= set(person_names())


def test_inert_people_change_less_and_lapsing_people_more() -> None:
    plain, inert, lapsing = (changes_of_mode(sessions_of(s)) for s in ("rational", "inert", "lapsing"))
    assert inert < plain - 0.1
    assert lapsing > plain + 0.03


def test_forgetful_people_are_those_of_rational_where_nothing_is_forgotten() -> None:
    plain, same = sessions_of("rational"), sessions_of("forgetful", forgetting=0.0)
    assert np.array_equal(plain.state.evidence.chosen, same.state.evidence.chosen)
    assert not np.array_equal(plain.state.evidence.chosen, sessions_of("forgetful").state.evidence.chosen)


def test_satisficing_people_accept_what_will_do() -> None:
    """The lower the aspiration, the more proposals are taken; with none at all every sober person takes the first."""
    low, high = (sessions_of(f"satisficing,aspiration={a}", role="advisor") for a in (0.0, 0.95))
    taken = [np.mean(s.state.evidence.chosen[:, ::2][:, :8] == 11) for s in (low, high)]
    assert taken[0] > 0.9
    assert taken[1] < 0.7


def test_impatient_people_leave_sooner_the_further_off_the_machine_is() -> None:
    sessions = sessions_of("impatient,hazard=0.05", max_rounds=12)
    left = sessions.reason == "gave_up"
    assert 0.2 < left.mean() < 0.9
    assert (sessions.last_round[left] >= 1).all() and (sessions.last_round[left] < 12).all()
    true = sessions.times["true"]
    horizon = 12 - true.rounds[(true.event == 0) & ~left].max()
    early = sessions.last_round <= 12 - horizon  # who leaves later is censored where nothing can be confirmed any more
    assert set(true.event[left & early]) <= {1, 2} and set(true.event[left & ~early]) <= {0, 1}
    first = sessions.true_degree[:, 1]
    assert first[left].mean() < first[~left].mean() - 0.03
    nobody = sessions_of("impatient,hazard=0", max_rounds=3)
    assert (nobody.reason == "max_rounds").all()


def test_frailty_gives_early_leavers_and_people_who_never_leave() -> None:
    """With the same mean hazard, frail crowds lose people early and keep a patient rest."""
    even, frail = (sessions_of(f"impatient,hazard=0.2,frailty_variance={v}", max_rounds=12) for v in (0.01, 4))
    assert np.mean(frail.reason == "max_rounds") > np.mean(even.reason == "max_rounds") + 0.1


@pytest.mark.parametrize("spec", ["impatient,hazard=-1", "forgetful,forgetting=2", "satisficing,aspiration=nan"])
def test_impossible_parameters_are_refused(spec: str) -> None:
    with pytest.raises(Exception, match="must be a finite number"):
        load_person(spec)
