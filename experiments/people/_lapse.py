"""Lapses of the models whose people follow a rule instead of weighing: then any option is as likely as any other."""

import numpy as np

from experiments.truth import Floats, Ints, Truth


def option_unless_lapsing(truth: Truth, option: Ints, num_options: int, u: Floats) -> Ints:
    """(N,) the option of the rule, or any of the offer; u (N, 1 + 2 L) as in `pick_option` of rational."""
    width = (u.shape[1] - 1) // 2
    lapse = np.argmax(u[:, 1 + width : 1 + width + num_options], axis=1)
    return np.where(u[:, 0] < truth.lapse, lapse, option)


def answer_unless_lapsing(truth: Truth, answer: Ints, u: Floats, num_answers: int = 3) -> Ints:
    """(N,) the rule's answer to a comparison, or to another question, or any of the three or more."""
    lapse = np.minimum(num_answers * u[:, 0] / np.maximum(truth.lapse, 1e-300), num_answers - 1).astype(np.int64)
    return np.where(u[:, 0] < truth.lapse, lapse, answer)
