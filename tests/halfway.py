"""Sessions brought to the middle of a round, for tests of what happens there."""

import numpy as np

from calib import rounds
from calib.questions import PAIR
from calib.setup import Setup
from calib.state import State
from experiments.batch import run_outcome
from experiments.live_person import answer_noise
from experiments.people import rational
from experiments.truth import draw_truth, first_mind


def before_measuring(setup: Setup, people: np.ndarray, num_rounds: int) -> State:
    """The state of rational people in that round, its answers given and not yet taken into the belief."""
    truth = draw_truth(setup, people, {})
    mind = first_mind(setup, people, truth)
    state = rounds.begin_session(setup, people)
    none = np.zeros(len(people))
    for t in range(num_rounds):
        state = rounds.measure(setup, state) if t else state
        state = rounds.begin_round(setup, state)
        option = rational.choose(setup, truth, mind, state, answer_noise(setup, state, "choice"))
        state = rounds.chosen(setup, state, option, none, none)
        z, robot_s = run_outcome(setup, state)
        mind = rational.experience(setup, truth, mind, state, z)
        state = rounds.question(setup, rounds.outcome(setup, state, z, robot_s, robot_s))
        answer = rational.compare(setup, truth, mind, state, answer_noise(setup, state, "comparison"))
        state = rounds.answered(setup, state, PAIR, answer, none, none)
    return state
