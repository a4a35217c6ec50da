"""The bench's end of the pipe: the same people, the same pool of questions, one learner after the other each round."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.peers.protocol import respond
from calib import alignment, live
from calib.choice import comparison_log_probs, menu_log_probs
from calib.evidence import add_best_of, add_comparison, empty_evidence
from calib.gain import best_menu
from calib.kernel import COMPARISON
from calib.policies import load_policy
from calib.setup import Setup
from calib.streams import stream_key, uniforms
from experiments.oracle import true_degree
from experiments.people.rational import pick
from experiments.truth import Truth, draw_truth

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROOT = Path(__file__).resolve().parent.parent.parent
NO_MODE = np.array([-1])
LAPSE, TAU = 3, 6  # rows behind the log ratios in calib/kernel.py's coordinates


class Side(Protocol):
    """Somebody who asks."""

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """The reply of bench/peers/protocol.py."""


class Pool(NamedTuple):
    """What is asked: pairs with "about equal" as a third answer, or menus of which the best card is named."""

    setup: Setup
    kind: str  # "pairs" or "menus"
    questions: Ints  # (R, K) cards


class Process:
    """A learner in a process of its own, with its own Python."""

    def __init__(self, command: Sequence[str | Path], setup: dict[str, Any], cwd: Path = ROOT) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = os.environ | threads | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd, env=environment
        )
        self.about = self.ask(setup)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Its reply. RuntimeError if it has ended."""
        assert self.process.stdin and self.process.stdout
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the learner ended with {self.process.wait()}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """Let it end."""
        self.process.communicate('{"end": true}\n')


class Here:
    """A learner in this process."""

    def __init__(self, learner: Any) -> None:
        self.learner = learner

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Its reply."""
        return respond(self.learner, message)


class Ours:
    """The live engine with a policy, learning from the answers to the pool alone; menus by information gain."""

    def __init__(self, pool: Pool, policy: str, num_particles: int, rounds: int) -> None:
        self.pool, self.policy, self.num_particles, self.rounds = pool, load_policy(policy), num_particles, rounds
        self.u, self.everybody = np.zeros((1, 4)), np.array([True])

    def begin(self, person: int) -> None:
        """Particles from the prior, no answers."""
        setup = self.pool.setup
        self.people = np.array([person])
        self.belief = live.start(setup.prior, self.people, setup.seed, self.num_particles)
        options = self.pool.questions.shape[1]
        self.evidence = empty_evidence(1, self.rounds + 1, options, setup.num_attributes)

    def choose(self) -> int:
        """The best question of the pool."""
        if self.pool.kind == "pairs":
            self.question = int(self.policy.choose(self.pool.setup, self.belief, self.belief.log_weight, self.u)[0])
        else:
            cards = self.pool.setup.cards
            self.question = int(best_menu(self.belief, self.belief.log_weight, cards, self.pool.questions)[0])
        return self.question

    def learn(self, answer: int) -> None:
        """Take the answer in."""
        setup, everybody, chosen = self.pool.setup, self.everybody, np.array([answer])
        options = setup.cards.take(self.pool.questions[self.question], axis=0)[None]
        if self.pool.kind == "pairs":
            self.evidence = add_comparison(self.evidence, everybody, options[:, 0], options[:, 1], chosen, True)
        else:
            self.evidence = add_best_of(self.evidence, everybody, options, chosen, True)
        since, seed = self.evidence.num_answers - 1, setup.seed
        self.belief, _ = live.update(self.belief, setup.prior, self.evidence, since, self.people, seed, everybody)

    def told(self) -> dict[str, Any]:
        """The settings with the highest expected degree."""
        w = live.intent(self.belief, self.pool.setup.num_attributes)
        ends = alignment.extremes(self.pool.setup, w)
        return {"standing": alignment.best_settings(self.pool.setup, w, ends)[0].tolist()}


def arrays_of(pool: Pool, num_points: int) -> dict[str, Any]:
    """What a peer may know: the cards, the questions, what settings lead to, and draws of the prior as a grid.

    cards (Q, J); questions (R, K); outcomes (S X, J); weights (P, J), rationality, about_equal and lapse (P,) of the
    draws, which are the live engine's first particles; slopes (P, X J), whose posterior mean times phi is, up to a
    constant, the expected degree of a setting (calib/alignment.py).
    """
    setup = pool.setup
    belief = live.start(setup.prior, np.array([0]), setup.seed, num_points)
    w = live.intent(belief, setup.num_attributes)
    extra = belief.particles[0, setup.num_attributes - 1 :]
    ends = alignment.extremes(setup, w)
    span = (ends.best - ends.worst)[0]
    counted = np.where(span >= alignment.MIN_RANGE, 1 / np.maximum(span, alignment.MIN_RANGE), 0.0)
    slopes = counted[:, None, :] * w  # (X, J, P)
    return {
        "cards": setup.cards,
        "questions": pool.questions,
        "outcomes": setup.phi[: setup.num_reference].reshape(-1, setup.num_attributes),
        "weights": np.ascontiguousarray(w[0].T),
        "rationality": np.exp(extra[COMPARISON]),
        "about_equal": np.exp(extra[TAU]),
        "lapse": 1 / (1 + np.exp(-extra[LAPSE])),
        "slopes": np.ascontiguousarray(slopes.reshape(-1, num_points).T),
    }


def standing_of(setup: Setup, reply: dict[str, Any]) -> Ints:
    """(X,) the settings that a reply stands for: named, or best by its slopes (X J) or values (S X)."""
    if "standing" in reply:
        return np.array(reply["standing"])
    phi = setup.phi[: setup.num_reference]
    if "slopes" in reply:
        value = np.einsum("sxj,xj->sx", phi, np.reshape(reply["slopes"], phi.shape[1:]))
    else:
        value = np.reshape(reply["values"], phi.shape[:2])
    return np.argmax(np.where(setup.feasible[: setup.num_reference], value, -np.inf), axis=0)


def answer_of(pool: Pool, truth: Truth, question: int, u: Floats) -> int:
    """What the person answers; u (1,) is theirs for the round, whoever asks."""
    utility = truth.weights @ pool.setup.cards[pool.questions[question]].T  # (1, K)
    if pool.kind == "pairs":
        difference = utility[:, 0] - utility[:, 1]
        log_p = comparison_log_probs(np, difference, truth.rationality[:, COMPARISON], truth.about_equal)
    else:
        log_p = menu_log_probs(np, utility, truth.rationality[:, COMPARISON, None], truth.lapse[:, None])
    return int(pick(log_p, u)[0])


class Asked(NamedTuple):
    """One person's rounds with one side."""

    seconds: Floats  # (T,) of update and choice
    processor_s: Floats  # (T,) the processor's, which other work on the machine does not lengthen
    degrees: Floats  # (T + 1,) true degree of what then stands, the first one meaningless
    answers: Ints  # (T,)


def ask_person(pool: Pool, sides: dict[str, Side], person: int, rounds: int, turns: str = "person") -> dict[str, Asked]:
    """The same person asked by each side, in turns: a round of every one and then the next, or all rounds of each."""
    setup, people = pool.setup, np.array([person])
    truth = draw_truth(setup, people, {})
    key = stream_key(setup.seed, "peers answers")
    asked = {
        name: Asked(np.empty(rounds), np.empty(rounds), np.zeros(rounds + 1), np.empty(rounds, np.int64))
        for name in sides
    }
    every = range(1, rounds + 1)
    order = [(t, name) for t in every for name in sides] if turns == "round" else [(t, n) for n in sides for t in every]
    question = {}
    for t, name in order:
        if t == 1:
            question[name] = sides[name].ask({"begin": person})["question"]
        answer = answer_of(pool, truth, question[name], uniforms(key, people, t, 1)[:, 0])
        reply = sides[name].ask({"answer": answer})
        question[name] = reply["question"]
        asked[name].seconds[t - 1], asked[name].processor_s[t - 1] = reply["seconds"], reply["processor_s"]
        asked[name].answers[t - 1] = answer
        asked[name].degrees[t] = true_degree(setup, truth, standing_of(setup, reply)[None])[0]
    return asked
