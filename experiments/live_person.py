"""One simulated person in a live session: answers through the batched model, keeps their own mind, and at the end
tells the truth that the session never saw."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import timing
from calib.events import CUT_SHORT
from calib.questions import KINDS
from calib.rounds import is_run
from calib.session import Session
from calib.setup import Setup
from calib.state import CLOCKS, State
from calib.streams import stream_key, uniforms
from devices.home.types import OUTCOMES
from experiments import oracle
from experiments.people import about_change, answer_to, becomes, patience_of
from experiments.truth import Mind, Truth, draw_truth, first_mind

_EFFORT = {"tool": "choose", "advisor": "decide"}  # what choosing is called in the effort table, by role


def answer_noise(setup: Setup, state: State, question: str) -> NDArray[np.float64]:
    """The uniforms of one question of one round: (N, 2 M + 3) for a choice, (N, 1) for the others."""
    width = 2 * (setup.num_modes + 1) + 1 if question == "choice" else 1
    return uniforms(stream_key(setup.seed, f"person {question}"), state.people, state.round, width)


def attention_s(setup: Setup, question: str) -> float:
    """Simulated seconds of attention for a question, from the scenario's effort table."""
    if question == "best_of":  # a card takes as long as in a comparison, which has two
        return setup.scenario.effort_s["compare"] * setup.menus.shape[1] / 2
    own = {"choice": _EFFORT[setup.role], "comparison": "compare", "probe": "expect", "rating": "rate"}
    name = own.get(question, question)
    return setup.scenario.effort_s[name]


@dataclass
class SimulatedPerson:
    """Person number `number` of a model. `answer` may be asked again after a resume and says the same."""

    setup: Setup
    model: ModuleType
    number: int
    truth: Truth  # in the round under way
    mind: Mind
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)  # what only we know of each round
    card: tuple[int, NDArray[np.int64]] | None = None  # round and context of a card that they have yet to look at
    truths: list[Truth] = field(default_factory=list)  # by round, 0 before the first

    def answer(self, state: State, question: str) -> tuple[int, float] | None:
        """The answer and its simulated seconds, None where they give up."""
        u = answer_noise(self.setup, state, question)
        self._look_at_card(state, question)
        self.truth = self.truth_in(state.round)
        if question == "choice":
            if hasattr(self.model, "gives_up"):
                chance = answer_noise(self.setup, state, "gives_up")
                if self.model.gives_up(self.setup, self.truth, self.mind, state, chance)[0]:
                    return None
            if not is_run(self.setup, state.round):
                self.card = (state.round, state.context)
            value = self.model.choose(self.setup, self.truth, self.mind, state, u)
            alone = self.model.choose_alone(self.setup, self.truth, self.mind, u)
            self.rounds[state.round] = {"alone": self.setup.mode_setting[alone], "f_hat": self.mind.f_hat}
        elif question in KINDS:
            value = answer_to(KINDS.index(question), self.model, self.setup, self.truth, self.mind, state, u)
        elif question == "change":
            value = about_change(self.model, self.setup, self.truth, self.mind, state, u)
        else:
            value = self.model.good_enough(self.setup, self.truth, self.mind, state, u)
        return int(value[0]), attention_s(self.setup, question)

    def patience_s(self, state: State) -> float:
        """Seconds of the run that is beginning after which they end it, inf where they may not."""
        u = answer_noise(self.setup, state, "cut_short")
        return float(patience_of(self.model, self.setup, self.truth_in(state.round), state, u)[0])

    def truth_in(self, round_number: int) -> Truth:
        """Who they are in a round."""
        self.truths = self.truths or [self.truth]
        while len(self.truths) <= round_number:
            args = np.array([self.number]), len(self.truths), np.array([True])
            self.truths.append(becomes(self.model, self.setup, self.truths[-1], *args))
        return self.truths[round_number]

    def _look_at_card(self, state: State, question: str) -> None:
        """A round without a run has no reading: its card is taken in before the next question is answered."""
        if self.card is None or (question == "choice" and state.round == self.card[0]):
            return
        z = self.setup.map.z[state.commanded, self.card[1]].mean(axis=1)
        self.mind, self.card = self.model.experience(self.setup, self.truth, self.mind, state, z), None

    def saw(self, state: State, z: tuple[float, ...]) -> None:
        """The outcome, from which they learn."""
        self.mind = self.model.experience(self.setup, self.truth, self.mind, state, np.array([z]))


def make_person(setup: Setup, model: ModuleType, parameters: dict[str, float], number: int) -> SimulatedPerson:
    """The person of that number, as the scenario's population and the seed make them."""
    people = np.array([number])
    truth = draw_truth(setup, people, parameters)
    return SimulatedPerson(setup, model, number, truth, first_mind(setup, people, truth))


def truth_document(
    person: SimulatedPerson, session: Session, start: dict[str, Any], rounds: list[dict[str, Any]]
) -> dict[str, Any]:
    """The truth about a finished session with its documents: who the person was, true degrees, time and gaps."""
    setup, truth = person.setup, person.truth_in(0)
    degrees = np.full((1, setup.max_rounds + 1), np.nan)  # by round, also those that did not come
    for t, document in enumerate((start, *rounds)):
        degrees[0, t] = oracle.true_degree(setup, person.truth_in(t), np.array([document["standing"]]))[0]
    last = np.array([len(rounds)])
    ended = np.array([timing.EVENT_OF_REASON.get(session.stop_reason or "", timing.ADMINISTRATIVE)])
    times = oracle.true_time(setup, degrees, last, ended)
    by_round = [_round_truth(person, r) for r in rounds]
    at = min(int(times.rounds[0]), len(rounds))
    clocks = session.state.clocks[0, at]
    return {
        "person": {
            "weights": {a.name: float(truth.weights[0, j]) for j, a in enumerate(setup.scenario.attributes)},
            **_aspirations(setup, truth),
            "rationality": [float(v) for v in truth.rationality[0]],
            "lapse": float(truth.lapse[0]),
            "reliance": float(truth.reliance[0]),
            "inertia": float(truth.inertia[0]),
            "about_equal": float(truth.about_equal[0]),
            "learning_rate": float(truth.learning_rate[0]),
            "belief_sd": float(truth.belief_sd[0]),
        },
        "true_degree": [float(v) for v in degrees[0, : len(rounds) + 1]],
        "time": {"event": int(times.event[0]), "rounds": at}
        | {name: float(clocks[i]) for i, name in enumerate(CLOCKS) if name != "rounds"},
        "rounds": by_round,
    } | ({"changes": _changes(person, len(rounds), degrees, ended)} if hasattr(person.model, "becomes") else {})


def _aspirations(setup: Setup, truth: Truth) -> dict[str, Any]:
    if setup.aspirations is None:
        return {}
    named = zip(setup.scenario.attributes, truth.aspirations[0], strict=True)
    return {"aspirations": {a.name: float(b) for a, b in named}}


def _changes(
    person: SimulatedPerson, num_rounds: int, degrees: NDArray[np.float64], ended: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """The rounds before which the intent was drawn anew, to what, and how long it took to be aligned again."""
    found = []
    for t in range(1, num_rounds + 1):
        truth = person.truth_in(t)
        if truth.changed[0] == t:
            again = oracle.time_to_realign(person.setup, degrees, np.array([t]), np.array([num_rounds]), ended)
            weights = {a.name: float(truth.weights[0, j]) for j, a in enumerate(person.setup.scenario.attributes)}
            realigned = {"event": int(again.event[0]), "rounds": int(again.rounds[0])}
            found.append({"round": t, "weights": weights, "realigned": realigned})
    return found


def _round_truth(person: SimulatedPerson, document: dict[str, Any]) -> dict[str, Any]:
    setup = person.setup
    notes, truth = person.rounds[document["round"]], person.truth_in(document["round"])
    names = [c.name for c in setup.scenario.contexts]
    context, commanded = np.array([names.index(document["context"])]), np.array([document["setting"]])
    realised = document["realised"]
    number = commanded
    if realised is not None:
        found = [i for i, s in enumerate(setup.settings) if vars(s) == realised]
        number = np.array(found[:1] or [-1])
    if number[0] < 0:
        return {"gaps": None, "luck": None}
    terms = oracle.true_gaps(setup, truth, notes["f_hat"], context, notes["alone"], commanded, number)
    z = np.array([[document["outcome"][name]["value"] for name in OUTCOMES]])
    luck = None if document["end"] == CUT_SHORT else float(oracle.luck(setup, truth, z, number, context)[0])
    return {"gaps": oracle.gaps_to_json(terms), "luck": luck}
