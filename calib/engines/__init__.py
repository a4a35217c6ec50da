"""Engines: what the machine believes, and from what. An engine is a file in this folder with

    TIER: str                         what it infers: "intent", "full" (beliefs too), or "known" (nothing)
    PARTICLES: int | None             its default number of particles a person, None for the scenario's
    EVIDENCE: ModuleType | None       how answers are kept: calib.evidence, calib.history, or nothing
    LEARNS_FROM: tuple[int, ...]      kinds of calib/questions.py that it may ask, beside the choice of every round
    start(setup, people) -> belief    before the first round; a NamedTuple of arrays with a leading axis of people
    question(setup, state) -> (N,)    the pair of cards to ask about, -1 to ask nothing
    measure(setup, state) -> Measured what is believed after this round's answers, and what stands

and, where it wants to,

    UTILITIES: tuple[str, ...]        of calib/utility.py that it holds for, linear alone where it does not say
    check(setup)                      UserError where a scenario or a setup does not suit it
    believed(setup, state)            (N, M, J, P) draws of what people expected at this round's choice
    own_parameters(setup, belief, person)  (P,) draws by name of what it infers beside calib/kernel.py's parameters
    predict(setup, state) -> Predicted how probable every option of the new answers was, before they were given
    answered(setup, state, person)    Answered: of all answers of one person, at draws of what is believed now
    take_in(setup, state)             belief and diagnostics with the new answers, and
    anew(setup, belief, people)       setup and belief of another intent that is answered in the same manner, and
    pooled(beliefs, share)            their mixture: what it takes beside `predict` and `EVIDENCE.since` to tell a
                                      change of intent (calib/change.py); its `measure` is `measured` of `take_in`

where the new answers are those from `state.in_belief` on. An engine uses no number of a person other than those of its
own streams. What each tier ignores and costs: docs/engines.md.
"""

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from calib.errors import UserError


def engine_names() -> list[str]:
    """The engines that there are: the files of this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


@cache
def load_engine(name: str) -> ModuleType:
    """The engine of that name. The name is checked against the folder before anything is imported."""
    if name not in engine_names():
        raise UserError(f'--engine: "{name}" is not an engine; choose {", ".join(engine_names())}')
    return importlib.import_module(f"calib.engines.{name}")
