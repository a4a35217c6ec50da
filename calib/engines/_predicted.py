"""How probable every option of an answer was, from particles in the coordinates of calib/kernel.py."""

from collections.abc import Callable

import numpy as np

from calib import live
from calib.choice import comparison_log_probs, menu_log_probs
from calib.history import STOP
from calib.kernel import ACCEPT_OVERRIDE, COMPARISON, MODE_CHOICE
from calib.setup import Setup
from calib.state import Answered, Floats, Predicted, State

# channel, answer and option probabilities (K, P) of each answer, of a person
Options = list[tuple[int, int, Floats]]
OfPerson = Callable[[int], Options]

_SLOT = {MODE_CHOICE: 0, ACCEPT_OVERRIDE: 0, COMPARISON: 1}  # of calib.state.Predicted
DRAWS = 128  # or a few more, of the particles, for `answered`


def predicted(setup: Setup, state: State, of_person: OfPerson) -> Predicted:
    """Averages over particles, which may be weighted. of_person(i): the new answers of person i at all of them.

    A later answer's particles are weighed by how likely they made the earlier one. Whether and when a run was cut short
    weighs too; it is no answer among options and is not predicted.
    """
    num, weights = len(state.people), np.exp(live.log_weight_of(state.belief))
    probability = np.zeros((num, 3, setup.most_options))
    answer = np.full((num, 3), -1)

    def work(low: int, high: int) -> None:
        for i in range(low, high):
            weight = weights[i]
            for channel, chosen, p in of_person(i):
                if channel == STOP:
                    weight = weight * p[chosen]
                    continue
                kind = _SLOT.get(channel, 2)
                answer[i, kind] = chosen
                probability[i, kind, : len(p)] = np.sum(weight * p, axis=1) / weight.sum()
                weight = weight * p[chosen]

    live.over_people(work, num)
    return Predicted(probability, answer)


def answered(setup: Setup, found: Options) -> Answered:
    """The answers of one person among options, at some of the particles."""
    found = [answer for answer in found if answer[0] != STOP]
    num = found[0][2].shape[1] if found else 0
    every = max(1, num // DRAWS)
    probability = np.zeros((len(found), setup.most_options, -(-num // every)))
    for a, (_, _, p) in enumerate(found):
        probability[a, : len(p)] = p[:, ::every]
    answer = np.array([chosen for _, chosen, _ in found], np.int64)
    return Answered(probability, answer, np.array([channel == COMPARISON for channel, _, _ in found], bool))


def option_probability(extra: Floats, channel: int, utility: Floats, recommended: Floats, last: Floats) -> Floats:
    """(K, P) from the last seven coordinates (7, P) and utility (K, P); recommended and last are 0/1 masks (K,)."""
    rationality = np.exp(extra[min(channel, COMPARISON)])
    if channel == COMPARISON:
        log_p = comparison_log_probs(np, utility[0] - utility[1], rationality, np.exp(extra[6]))
    else:
        log_p = menu_log_probs(
            np,
            utility.T,
            rationality[:, None],
            1 / (1 + np.exp(-extra[3]))[:, None],
            reliance=extra[4][:, None],
            recommended=recommended,
            inertia=extra[5][:, None],
            last=last,
        )
    return np.exp(np.ascontiguousarray(log_p.T))
