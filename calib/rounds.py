"""One round as pure functions over arrays of people: (setup, state, ...) -> state.

A live session calls them with one person (calib/session.py), headless work with thousands. People who have stopped
are not active: their rows stay as they are. The functions never see the truth that a simulator knows.

The order in a round: begin, chosen, outcome, question, answered, measure, good_enough, end.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import change, choice, live, probes
from calib import evidence as answers
from calib.checks import Checks, observe
from calib.checks import start as start_checks
from calib.engines import load_engine
from calib.kernel import ACCEPT_OVERRIDE, MODE_CHOICE
from calib.outcomes import scale
from calib.questions import BEST_OF, GRADES, PAIR, PROBE, RATING
from calib.setup import Setup
from calib.state import CLOCKS, Estimate, Floats, Ints, Mask, Measured, Predicted, State
from calib.streams import stream_key, uniforms

_BASELINE_PARTICLES = 256


def begin_session(setup: Setup, people: Ints, belief: Any = None, in_place: bool = False) -> State:
    """The state before the first round: the belief is the engine's first one unless one is given."""
    num, max_rounds = people.shape[0], setup.max_rounds
    engine = load_engine(setup.engine)
    belief = engine.start(setup, people) if belief is None else belief
    kept, room = (engine.EVIDENCE, max_rounds) if engine.EVIDENCE else (answers, 0)
    sizes = room, setup.num_modes, setup.num_attributes, setup.menus.shape[1]
    nothing = np.full(num, -1)
    state = State(
        people=people,
        round=0,
        active=np.ones(num, bool),
        context=np.zeros(num, np.int64),
        replicate=np.zeros(num, np.int64),
        proposal=nothing,
        f_hat=np.repeat(setup.expectation[None], num, axis=0),
        last_mode=nothing,
        standing=np.full((num, setup.num_contexts), setup.default),
        commanded=np.full(num, setup.default),
        kind=nothing,
        asked=nothing,
        answer=nothing,
        cut_short=np.zeros(num, bool),
        seen=np.zeros((num, setup.num_attributes)),
        evidence=kept.empty(num, *sizes),
        in_belief=np.zeros(num, np.int64),
        belief=belief,
        diagnostics=live.Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num)),
        estimate=Estimate(*(np.full(num, np.nan) for _ in range(6))),
        p_aligned=np.full((num, max_rounds + 1), np.nan),
        good_enough=np.full((num, max_rounds + 1), -1, np.int8),
        clocks=np.zeros((num, max_rounds + 1, len(CLOCKS))),
        checks=_no_checks(setup, people) if hasattr(engine, "predict") else None,
        change=change.start(setup, belief, num),
        in_place=in_place,
    )
    return measure(setup, state)


def begin_round(setup: Setup, state: State) -> State:
    """The next round's context and replicate, and the machine's proposal where the role has one."""
    number = state.round + 1
    u = uniforms(stream_key(setup.seed, "context"), state.people, number, 2)
    context = np.searchsorted(np.cumsum(setup.context_p), u[:, 0], side="right")
    context = np.minimum(context, setup.num_contexts - 1)
    replicate = np.minimum((u[:, 1] * setup.scenario.replicates).astype(np.int64), setup.scenario.replicates - 1)
    rows = np.arange(len(state.people))
    proposal = state.standing[rows, context] if setup.role == "advisor" else np.full(len(rows), -1)
    clocks = _writable(state, state.clocks)
    clocks[state.active, number] = clocks[state.active, number - 1]
    clocks[state.active, number, 0] += 1
    return replace(
        state,
        round=number,
        context=np.where(state.active, context, state.context),
        replicate=np.where(state.active, replicate, state.replicate),
        proposal=np.where(state.active, proposal, state.proposal),
        kind=np.where(state.active, -1, state.kind),
        asked=np.where(state.active, -1, state.asked),
        answer=np.where(state.active, -1, state.answer),
        cut_short=state.cut_short & ~state.active,
        clocks=clocks,
    )


def is_run(setup: Setup, number: int) -> bool:
    """Whether the robot runs in this round; else its outcome is shown on a card."""
    return (number - 1) % setup.scenario.protocol.run_every == 0


def options(setup: Setup, state: State) -> Floats:
    """(N, K, J) scaled attributes of what is offered, as believed: the modes by f_hat, a proposal by its card."""
    if setup.role != "advisor":
        return state.f_hat
    return np.concatenate([state.f_hat, setup.phi[state.proposal, state.context][:, None]], axis=1)


def proposed_option(setup: Setup, state: State) -> Ints:
    """(N,) the option number of the proposal, -1 for none."""
    return np.where(state.proposal >= 0, setup.num_modes, -1)


def chosen(setup: Setup, state: State, option: Ints, attention_s: Floats, wall_s: Floats) -> State:
    """After the person's choice (N,): evidence, what will run, and for the tool role what stands from now on."""
    evidence, kept = state.evidence, load_engine(setup.engine).EVIDENCE
    if kept:
        evidence = kept.add_choice(
            evidence,
            state.active,
            ACCEPT_OVERRIDE if setup.role == "advisor" else MODE_CHOICE,
            options(setup, state),
            option,
            proposed_option(setup, state),
            state.last_mode,
            state.in_place,
        )
    of_mode = setup.mode_setting[np.minimum(option, setup.num_modes - 1)]
    commanded = np.where(option < setup.num_modes, of_mode, state.proposal)
    commanded = np.where(state.active, commanded, state.commanded)
    standing = state.standing
    if setup.role == "tool":
        standing = standing.copy()
        rows = np.flatnonzero(state.active)
        standing[rows, state.context[rows]] = commanded[rows]
    checks = state.checks
    if checks is not None:
        checks = checks._replace(menu=options(setup, state))
    state = replace(state, evidence=evidence, commanded=commanded, standing=standing, checks=checks)
    return spend(state, attention_s=attention_s, wall_s=wall_s, effort=1.0)


def outcome(
    setup: Setup, state: State, z: Floats, robot_s: Floats, wall_s: Floats, cut_short: Mask | None = None
) -> State:
    """After the run, or its card: z (N, 6) as the person sees it. They learn about the mode that ran.

    Who has cut the run short (N,) has seen no outcome and learns nothing from it; that they did is an answer.
    """
    cut_short = state.active & (np.zeros(len(z), bool) if cut_short is None else cut_short)
    whole = state.active & ~cut_short
    f_hat, last_mode = experience(setup, state.f_hat, state.last_mode, state.commanded, z, whole, setup.learning)
    evidence, kept = state.evidence, load_engine(setup.engine).EVIDENCE
    seen = np.where(whole[:, None], scale(setup.scenario, z), state.seen)
    if setup.learns_from_cuts and is_run(setup, state.round):
        predicted = setup.phi[state.commanded, state.context]
        evidence = kept.add_watched(evidence, state.active, predicted, robot_s / 60, cut_short, state.in_place)
    if kept:
        mode = setup.setting_mode[state.commanded]
        evidence = kept.add_run(evidence, whole, mode, seen, state.in_place)
    held = np.where(state.active, cut_short, state.cut_short)
    state = replace(state, f_hat=f_hat, last_mode=last_mode, evidence=evidence, seen=seen, cut_short=held)
    return spend(spend(state, robot_s=robot_s, wall_s=wall_s), cut_short, effort=1.0)


def experience(
    setup: Setup, f_hat: Floats, last_mode: Ints, commanded: Ints, z: Floats, active: Mask, learning: Floats
) -> tuple[Floats, Ints]:
    """f_hat (N, M, J) and last mode (N,) after seeing z (N, 6) of what was commanded: the person's own function too.

    learning (J,) or (N, J) is the learning rate times salience.
    """
    mode = setup.setting_mode[commanded]
    rows = np.flatnonzero(active & (mode >= 0))
    f_hat, step = f_hat.copy(), np.broadcast_to(learning, (len(active), setup.num_attributes))[rows]
    observed = scale(setup.scenario, z[rows])
    f_hat[rows, mode[rows]] = choice.learn(np, f_hat[rows, mode[rows]], observed, step, 1.0)
    return f_hat, np.where(active, mode, last_mode)


def question(setup: Setup, state: State) -> State:
    """What the policy asks, -1 where it asks nothing. It knows this round's choice already."""
    if setup.scenario.protocol.questions_per_round == 0:
        return state
    kind, asked = setup.pool.parts(load_engine(setup.engine).question(setup, state))
    return replace(
        state, kind=np.where(state.active, kind, state.kind), asked=np.where(state.active, asked, state.asked)
    )


def num_answers(setup: Setup, state: State) -> int:
    """How many answers the question of the first person has."""
    if state.kind[0] == PROBE:
        return len(probes.shown(setup.scenario, int(state.asked[0]))["values"])
    return {PAIR: 3, RATING: len(GRADES), BEST_OF: setup.menus.shape[1]}[int(state.kind[0])]


def answered(setup: Setup, state: State, kind: int, answer: Ints, attention_s: Floats, wall_s: Floats) -> State:
    """After the answer (N,) of those whose question is of this kind.

    Of a comparison 0 is the first card, 1 the second, 2 about equal; of a probe it is a value of calib/probes.py; of a
    rating a grade, worst first; else the card.
    """
    who = state.active & (state.kind == kind)
    evidence, kept = state.evidence, load_engine(setup.engine).EVIDENCE
    if kept:
        evidence = _ADD[kind](setup, state, kept, who, answer)
    state = replace(state, evidence=evidence, answer=np.where(who, answer, state.answer))
    return spend(state, who, attention_s=attention_s, wall_s=wall_s, effort=1.0)


def _add_comparison(setup: Setup, state: State, kept: Any, who: Mask, answer: Ints) -> Any:
    a, b = setup.pairs[np.maximum(state.pair, 0)].T
    return kept.add_comparison(state.evidence, who, setup.cards[a], setup.cards[b], answer, state.in_place)


def _add_probe(setup: Setup, state: State, kept: Any, who: Mask, answer: Ints) -> Any:
    mode, attribute = np.divmod(np.maximum(state.probe, 0), setup.num_attributes)
    said = probes.said(setup.scenario, np.where(who, state.probe, -1), answer)
    return kept.add_probe(state.evidence, who, mode, attribute, said, state.in_place)


def _add_rating(setup: Setup, state: State, kept: Any, who: Mask, answer: Ints) -> Any:
    return kept.add_rating(state.evidence, who, state.seen, answer, state.in_place)


def _add_best_of(setup: Setup, state: State, kept: Any, who: Mask, answer: Ints) -> Any:
    cards = setup.cards[setup.menus[np.maximum(state.of_kind(BEST_OF), 0)]]
    return kept.add_best_of(state.evidence, who, cards, answer, state.in_place)


_ADD = {PAIR: _add_comparison, PROBE: _add_probe, RATING: _add_rating, BEST_OF: _add_best_of}


def measure(setup: Setup, state: State) -> State:
    """What the engine believes after this round's answers, where the machine then stands, and the degree of that."""
    engine, banks, given = load_engine(setup.engine), state.change, None
    if banks is None:
        taken = engine.measure(setup, state)
    else:
        new = change.take_in(setup, state)
        banks, given = new.banks, Predicted(new.probability, new.answer)
        taken = engine.measured(setup, state, new.belief, new.diagnostics)
    state = replace(_measured(state, taken), change=banks, checks=_checked(setup, state, given))
    return replace(state, in_belief=state.evidence.num_answers.copy())


def _measured(state: State, taken: Measured) -> State:
    belief, diagnostics, standing, fresh = taken
    held = {k: np.where(state.active, v, getattr(state.estimate, k)) for k, v in vars(fresh).items()}
    p_aligned = _writable(state, state.p_aligned)
    p_aligned[state.active, state.round] = fresh.p_aligned[state.active]
    return replace(
        state,
        belief=belief,
        diagnostics=live.Diagnostics(
            *(np.where(state.active, new, old) for new, old in zip(diagnostics, state.diagnostics, strict=True))
        ),
        standing=np.where(state.active[:, None], standing, state.standing),
        estimate=Estimate(**held),
        p_aligned=p_aligned,
    )


def change_told(setup: Setup, state: State, answer: Ints, attention_s: Floats, wall_s: Floats) -> State:
    """After the answer (N,), of calib.change.ANSWERS, to "did you change, or did I misread you?" of those asked."""
    asked = change.asks(setup, state)
    after = change.answered(setup, state, answer)
    taken = load_engine(setup.engine).measured(setup, after, after.belief, after.diagnostics)
    return spend(_measured(after, taken), asked, attention_s=attention_s, wall_s=wall_s, effort=1.0)


def _no_checks(setup: Setup, people: Ints) -> Checks:
    few = replace(setup, num_particles=min(setup.num_particles, _BASELINE_PARTICLES))
    num_options = setup.num_modes + (setup.role == "advisor")
    prior = load_engine(setup.engine).start(few, people)
    return start_checks(prior, len(people), num_options, setup.num_attributes, setup.max_rounds)


def _checked(setup: Setup, state: State, given: Predicted | None) -> Checks | None:
    """The checks with this round's answers, which the belief of `state` has not taken in; their predictions if made."""
    checks = state.checks
    if checks is None or state.round == 0:
        return checks
    engine = load_engine(setup.engine)
    probability, answer = given or engine.predict(setup, state)
    baseline = engine.predict(setup, _unlearnt(state, checks.prior, 0)).probability
    # the later answer's baseline has not even learnt from this round's choice
    earlier = np.maximum(state.evidence.num_answers - state.in_belief - 1, 1)
    baseline[:, 1:] = engine.predict(setup, _unlearnt(state, checks.prior, earlier)).probability[:, 1:]
    a, b = setup.pairs[np.maximum(state.pair, 0)].T
    gap = setup.cards[a] - setup.cards[b]
    return observe(checks, state.round, probability, baseline, answer, state.pair, gap)


def _unlearnt(state: State, prior: Any, skip: Ints | int) -> State:
    """The state as if the prior were still believed, `skip` of this round's entries taken in all the same."""
    return replace(state, belief=prior, in_belief=state.in_belief + skip)


def asks_good_enough(setup: Setup, round_number: int) -> bool:
    """Whether the person is asked "good enough?" at the end of this round."""
    protocol = setup.scenario.protocol
    since = round_number - protocol.good_enough_from
    return since >= 0 and since % protocol.good_enough_every == 0


def good_enough(state: State, answer: Ints, attention_s: Floats, wall_s: Floats) -> State:
    """After "good enough?" was answered (N,) with 0 or 1."""
    table = _writable(state, state.good_enough)
    table[state.active, state.round] = answer[state.active]
    return spend(replace(state, good_enough=table), attention_s=attention_s, wall_s=wall_s, effort=1.0)


def finished(setup: Setup, state: State) -> NDArray[np.str_]:
    """(N,) the protocol's reason to stop after this round, "" where it goes on."""
    reason = np.full(len(state.people), "", dtype="<U12")
    if setup.stop_rule == "accepted":
        reason[state.good_enough[:, state.round] == 1] = "accepted"
    elif setup.stop_rule == "declared":
        reason[state.p_aligned[:, state.round] >= 1 - setup.scenario.delta] = "declared"
    if state.round >= setup.max_rounds:
        reason[reason == ""] = "max_rounds"
    return np.where(state.active, reason, "")


def spend(
    state: State,
    who: Mask | None = None,
    *,
    attention_s: Floats | float = 0.0,
    wall_s: Floats | float = 0.0,
    robot_s: Floats | float = 0.0,
    effort: float = 0.0,
) -> State:
    """Time and effort of this round, added to the clocks of those who are active."""
    who = state.active if who is None else who
    clocks = _writable(state, state.clocks)
    for column, amount in ((1, attention_s), (2, wall_s), (3, robot_s), (4, effort)):
        clocks[who, state.round, column] += np.broadcast_to(amount, who.shape)[who]
    return replace(state, clocks=clocks)


def _writable(state: State, table: Any) -> Any:
    return table if state.in_place else table.copy()


def stop_people(state: State, who: Mask) -> State:
    """From here on these people's rows stay as they are."""
    return replace(state, active=state.active & ~who)
