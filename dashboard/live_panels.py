"""The parts of the Live page, each drawn by one function from a link or from documents."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import streamlit as st

from calib.calibration import map_notes
from calib.documents import card
from calib.errors import JournalError, UserError
from calib.events import CUT_SHORT
from calib.gaps import GAPS
from calib.identify import in_words
from calib.journal import Entry, open_journal
from calib.scenario import Scenario, load_scenario_text
from calib.summary import summarise
from dashboard import cards, data, live_figures
from dashboard.floor import picture
from dashboard.link import HEARTBEAT_S, Link
from dashboard.rows import EVENTS, GAP_NAMES
from dashboard.show import count, literal
from devices.home.types import OUTCOMES, FloorPlan

_LINK = {"ready": "link ready", "lost": "LINK LOST", "": ""}


@lru_cache(maxsize=8)
def _scenario(text: str, file: str) -> Scenario:
    return load_scenario_text(text, file)


def scenario_of(link: Link) -> Scenario:
    """The scenario of a run, from its start document."""
    start = link.documents[0]
    return _scenario(start["scenario_text"], start["scenario"])


def drawn(link: Link) -> tuple[object, ...]:
    """What the slow part of the page shows; where it has changed, the whole page is drawn anew."""
    pending = link.status.get("pending") or {}
    phase = link.status.get("phase")
    lead = link.leads or (bool(link.status.get("lead")), link.status.get("lead_silent"))
    return pending.get("number"), phase in ("running", "finished") and phase, len(link.documents), lead


def past(attach: Callable[[str], None]) -> None:
    """The last runs of the journal, each to be looked at."""
    try:
        with open_journal(data.journal_url(), create=False) as journal:
            rows = journal.runs()[-8:][::-1]
    except (JournalError, UserError):
        return  # there is no journal yet
    if rows:
        st.subheader("Recorded", anchor=False)
    for row in rows:
        text = f"{row.run}: {row.kind}, {row.scenario}, {row.device}, {row.rounds} rounds, {row.state}"
        offer(text, "Look", row.run, attach)


def offer(text: str, label: str, run: str, attach: Callable[[str], None]) -> None:
    """A run in one line, with a button that opens it."""
    left, right = st.columns([4, 1], vertical_alignment="center")
    left.text(text)
    right.button(label, key=f"{label.lower()}-{run}", on_click=attach, args=(run,), width="stretch")


def controls(link: Link) -> None:
    """Giving up, saying that one has changed one's mind."""
    if link.leads:
        with st.popover("Something else", width="stretch"):
            st.text_input("I want something else now: what has changed?", key="changed-note", max_chars=500)
            st.button("Record that I changed my mind", key="changed", on_click=_changed, args=(link,))
            st.button("I give up", key="give-up", on_click=_give_up, args=(link,))


def watched(link: Link) -> None:
    """Of a run that may be cut short: what it is predicted to do, and the button."""
    predicted = link.status.get("predicted")
    if predicted:
        with st.container(border=True, key="watched"):
            st.html("<b>What this run is predicted to do</b>" + cards.outcome(predicted))
            st.button(
                "Cut this run short", key="cut-short", disabled=not link.leads, width="stretch",
                on_click=_cut_short, args=(link,), help="The robot stops; the session goes on.",
            )  # fmt: skip


def lead(link: Link) -> None:
    """Who leads where this page does not, and the button that takes the lead over."""
    if not link.leads and link.status.get("lead"):
        silent = link.status.get("lead_silent")
        st.info(
            "Who led is silent." if silent else "Another page or terminal leads this run and answers its questions."
        )
        st.button(
            "Take over: answer from this page", key="take-over", on_click=_take_over, args=(link,), width="stretch"
        )


def _take_over(link: Link) -> None:
    link.take_over()
    link.beat(anew=True)


def _changed(link: Link) -> None:
    link.note = link.changed_mind(st.session_state["changed-note"]) or "Recorded."


def _cut_short(link: Link) -> None:
    link.note = link.cut_short()
    link.beat(anew=True)


def _give_up(link: Link) -> None:
    link.note = link.give_up()


def state_line(link: Link) -> str:
    """Where the run stands, in one line."""
    status = link.status
    if not link.is_answered:
        return "The runner does not answer: what you see is old. STOP ends it, and with it the robot's run."
    phase = {"choosing": "waits for a choice", "operator": "waits for the operator", "running": "the robot cleans",
             "asking": "waits for an answer", "satisfied": "waits for a yes or no", "paused": "paused",
             "wondering": "asks whether you changed",
             "unarmed": "waits to be armed", "finished": "over", "opening": "opens the robot"}  # fmt: skip
    who = "this page leads" if link.leads else "this page watches" if status.get("lead") else "nobody leads"
    if status.get("lead_silent") and not link.leads:
        who += "; the leading page is silent"
    where = f"round {status['round']}, {status['context']}: " if status.get("round") else ""
    how, reason = (status.get("link") or {"state": "", "reason": ""}).values()
    words = _LINK.get(how, f"link {how}") + ("" if how in ("ready", "") else f" ({reason})")
    return f"{where}{phase.get(status.get('phase', ''), 'no answer')} · {words} · {who}"


def late_words(link: Link) -> str:
    """What the page says when it has lost its contact."""
    if not link.is_answered:
        return "The runner does not answer. STOP ends it."
    if link.leads:
        return f"The runner stops the robot after {HEARTBEAT_S:g} s without this page; `calib stop` stops it too."
    return "The robot is in the hands of whoever leads; `calib stop` stops it."


def plan_picture(plan: FloorPlan, link: Link) -> None:
    """The floor plan with what has been swept, and how far the run is."""
    progress = link.status.get("progress")
    running = link.status.get("phase") == "running"
    st.image(picture(plan, link.path, progress["pose"] if progress else None), width="stretch")
    if progress:
        minutes, percent = progress["elapsed_s"] / 60, progress["fraction"]
        text = f"{minutes:.1f} min, {percent:.0%} of the planned run, {count(progress['bumps'], 'bump')}"
        st.progress(min(max(percent, 0.0), 1.0), text=text if running else f"last run: {text}")
    st.caption(
        "Blue: swept, by the robot's own estimate of its way. Beige: not swept; darker: carpet. Brown: furniture. "
        "Red: stairs."
    )


def outcome(link: Link) -> None:
    """What the person has seen last: of this round's run, or while they choose of the one before."""
    seen, last = link.status.get("outcome"), link.documents[-1] if link.documents else {}
    if seen is None and last.get("type") == "round":
        z = [last["outcome"][name]["value"] for name in OUTCOMES]
        seen = {"card": None if last["end"] == CUT_SHORT else card(scenario_of(link), z), "end": last["end"]}
    if seen and seen["card"] is None:
        st.info("You cut this run short: there is no outcome of it.")
    elif seen:
        with st.container(border=True, key="outcome"):
            head = (
                "What this setting would do (a card instead of a run)" if seen["end"] == "card" else "What the run did"
            )
            st.html(f"<b>{head}</b>" + cards.outcome(seen["card"]))


def question(link: Link) -> None:
    """The open question with its buttons; an answer carries the question's number, so a late one answers nothing."""
    pending = link.status.get("pending")
    if not pending and link.status.get("phase") == "paused":
        within_s = scenario_of(link).protocol.reconnect_s
        st.warning(f"The link to the robot is lost. The runner looks for it for {within_s:g} s, then the session ends.")
        return
    if not pending:
        st.info("One moment.")
        return
    drawn = {"choice": _choice, "comparison": _comparison, "probe": _probe, "rating": _rating, "best_of": _best_of}
    others = {"good_enough": _good_enough, "change": _change, "ready": _ready, "arm": _arm}
    (drawn | others)[pending["question"]](link, pending)


def _button(link: Link, pending: dict[str, Any], label: str, value: int = 0, primary: bool = False) -> None:
    name, number = pending["question"], pending["number"]
    st.button(
        label,
        key=f"{name}-{number}-{value}",
        type="primary" if primary else "secondary",
        disabled=not link.leads,
        width="stretch",
        on_click=_reply,
        args=(link, name, number, value),
    )


def _reply(link: Link, name: str, number: int, value: int) -> None:
    link.note = link.reply(name, number, value)
    link.beat(anew=True)


def _choice(link: Link, pending: dict[str, Any]) -> None:
    st.subheader("How shall the robot clean?", anchor=False)
    st.caption(f"Round {pending['round']}. The circumstances: {literal(pending['context'].replace('_', ' '))}")
    proposal = pending["proposal"]
    if proposal:
        with st.container(border=True, key="proposal"):
            st.html(
                f"<b>The machine proposes</b>: {cards.settings(proposal['settings'])}<br>It expects:"
                + cards.outcome(proposal["card"])
            )
            _button(link, pending, "Accept the proposal", len(pending["modes"]), primary=True)
    for i, mode in enumerate(pending["modes"]):
        if i % 3 == 0:  # row by row: the Tab key and a narrow screen keep the menu's order
            columns = st.columns(3)
        with columns[i % 3], st.container(border=True, key=f"mode-{i}"):
            st.html(f"<b>{cards.words(mode['label'])}</b><br>{cards.words(mode['description'])}")
            _button(link, pending, f"Take {literal(mode['label'])}", i)


def _comparison(link: Link, pending: dict[str, Any]) -> None:
    st.subheader("Which outcome would you rather have?", anchor=False)
    for column, side, value in zip(st.columns(2), ("a", "b"), (0, 1), strict=True):
        with column, st.container(border=True, key=f"outcome-{side}"):
            st.html(cards.outcome(pending[side]))
            _button(link, pending, "Rather this", value)
    _button(link, pending, "About equal", 2)


def _probe(link: Link, pending: dict[str, Any]) -> None:
    name, values = pending["attribute"].replace("_", " "), pending["values"]
    st.subheader(f"What do you expect of {literal(pending['label'])}?", anchor=False)
    value = st.select_slider(
        f"{literal(name)} in {literal(pending['unit'])}",
        options=values,
        value=values[len(values) // 2],
        key=f"probe-{pending['number']}",
        disabled=not link.leads,
    )
    _button(link, pending, "That is what I expect", values.index(value), primary=True)


def _change(link: Link, pending: dict[str, Any]) -> None:
    since = f"Since round {pending['since']}" if pending["since"] else "In this session"
    st.subheader(f"{since}: did you change what you want, or did I misread you?", anchor=False)
    answers = ("I changed", "You misread me", "Neither, or not sure")
    for value, (column, label) in enumerate(zip(st.columns(3), answers, strict=True)):
        with column:
            _button(link, pending, label, value)


def _rating(link: Link, pending: dict[str, Any]) -> None:
    st.subheader("How far was this run as you would have it?", anchor=False)
    grades = pending["grades"]
    for column, (value, words) in zip(st.columns(len(grades)), enumerate(grades), strict=True):
        with column:
            _button(link, pending, words.capitalize(), value)


def _best_of(link: Link, pending: dict[str, Any]) -> None:
    st.subheader("Which of these outcomes would you like best?", anchor=False)
    for i, each in enumerate(pending["cards"]):
        if i % 3 == 0:
            columns = st.columns(3)
        with columns[i % 3], st.container(border=True, key=f"best-of-{i}"):
            st.html(cards.outcome(each))
            _button(link, pending, "This one", i)


def _good_enough(link: Link, pending: dict[str, Any]) -> None:
    st.subheader("If nobody said anything more, the robot would clean like this. Good enough?", anchor=False)
    for column, standing in zip(st.columns(len(pending["standing"])), pending["standing"], strict=True):
        with column, st.container(border=True):
            st.html(
                f"<b>{cards.words(standing['context'])}</b><br>{cards.settings(standing['settings'])}"
                + cards.outcome(standing["card"])
            )
    yes, no = st.columns(2)
    with yes:
        _button(link, pending, "Yes, good enough", 1, primary=True)
    with no:
        _button(link, pending, "Not yet", 0)


def _ready(link: Link, pending: dict[str, Any]) -> None:
    st.subheader("Put the robot at its start and clear the floor.", anchor=False)
    _button(link, pending, "It is ready: start", primary=True)


def _arm(link: Link, pending: dict[str, Any]) -> None:
    within = "" if pending["within_s"] is None else f" Within {pending['within_s']:g} s, else the run ends."
    st.warning(f"The robot was stopped: {literal(pending['reason'])}. Nothing moves until you allow it.{within}")
    _button(link, pending, "It may move again: arm", primary=True)


def charts(documents: list[dict[str, Any]], attributes: list[str], wide: bool) -> None:
    """Degree over rounds and what is believed about the person, side by side where there is room."""
    left, right = st.columns(2, gap="large") if wide else (st.container(), st.container())
    with left:
        _degree(documents)
    if len(documents) > 1:
        with right:
            _belief(documents, attributes)


def _degree(documents: list[dict[str, Any]]) -> None:
    st.markdown("**Degree of alignment, as the machine estimates it**")
    st.altair_chart(live_figures.degree(documents), width="stretch")
    st.caption("Band: 90% interval. It shows what the machine believes, not what you mean: only you know that.")
    for note in map_notes(documents[0]):
        (st.warning if note.startswith("!") else st.caption)(literal(note.lstrip("! ")))
    if documents[-1]["type"] == "round" and (missed := documents[-1].get("floors_missed")):
        st.warning(f"This run missed its floor of {', '.join(missed)}: a fault of the robot, not of what you want.")
    alarm = documents[-1].get("alarm") or {}
    if alarm.get("raised"):
        st.warning(
            f"{alarm['says']} The degree above supposes one. At most {alarm['false_alarm_rate_at_most']:.0%} of people "
            "whom the model describes ever see this."
        )
    if change := documents[-1].get("change"):
        since = f"since round {change['since']}" if change["since"] else "in this session"
        likely = f", most likely before round {change['likely']}" if change["likely"] else ""
        st.caption(f"That you changed what you want {since} it takes for {change['p_changed']:.0%} probable{likely}.")


def _belief(documents: list[dict[str, Any]], attributes: list[str]) -> None:
    st.markdown("**What it believes about what counts for you**")
    st.altair_chart(live_figures.belief(documents[-1], attributes), width="stretch")
    st.caption("Mean and one standard deviation. Mode choices alone would not show this; your comparisons do.")


def read_run(run: str, url: str) -> list[Entry]:
    """The journal's entries of a run. JournalError and UserError in one line."""
    with open_journal(url, create=False) as journal:
        return journal.entries(run)


def summary(entries: list[Entry], url: str) -> None:
    """The end of a session: why it ended, the degree, the times, the gaps."""
    s = summarise(entries, url)
    degree = s["degree"]
    st.subheader(f"The session is over: {cards.words(s['stop_reason'])}, {count(s['rounds'], 'round')}", anchor=False)
    bodies = [{"type": e.type, **e.body} for e in entries if e.body is not None]
    start, stop = bodies[0], next(b for b in bodies if b["type"] == "stop")
    for mark in stop["marks"]:
        if "reason" in mark:
            st.caption(f"Round {mark['round']}: {literal(mark['reason'])}")
    first, second, third = st.columns(3)
    first.metric("degree of alignment", f"{degree['mean']:.2f}", help="posterior mean; 90% interval below", border=True)
    first.caption(f"90% interval {degree['low']:.2f} to {degree['high']:.2f}")
    second.metric(f"P(degree at least {1 - start['eps']:g})", f"{degree['p_aligned']:.2f}", border=True)
    prior = s["prior_only"]
    second.caption(f"before any answer the degree was {prior['mean']:.2f} [{prior['low']:.2f}, {prior['high']:.2f}]")
    if s["identified"]:
        st.caption(f"The answers speak about {in_words(s['identified'])}.")
    if s["true_degree"] is None:
        third.metric("true degree", "not known", help="of a real person nobody knows it", border=True)
    else:
        third.metric("true degree", f"{s['true_degree']:.3f}", help="known in simulation only", border=True)
    left, right = st.columns(2)
    with left:
        st.markdown("**Time to alignment**")
        st.html(cards.table(("version", "event", "rounds", "attention", "robot", "effort"), _times(s["time"])))
    with right:
        st.markdown(f"**Gaps of the last round** ({s['gaps_known'] or 'no round'})")
        st.html(cards.table(("gap", "utility"), [(GAP_NAMES[name], _gap(s["gaps"][name])) for name in GAPS]))
        if s.get("choice_and_mediation"):
            st.caption(f"choice and mediation together: {_gap(s['choice_and_mediation'])}; apart only with a mute arm")
    _honesty(s.get("honesty"))
    if s["audit"]:
        verdict = "trustworthy" if s["audit"]["trustworthy"] else "NOT trustworthy: read its diagnostics"
        st.caption(f"Audit by {s['audit']['engine']}: {verdict}; degree by PyMC {s['audit']['degree']['mean']:.3f}.")
    charts(
        [b for b in bodies if b["type"] in ("start", "round")],
        [a.name for a in _scenario(start["scenario_text"], start["scenario"]).attributes],
        wide=True,
    )
    st.code(f"calib replay {s['run']}{data.journal_words(url)}", language=None)
    st.caption(
        f"{s['kind']}, on a {s['rung']} ({literal(s['device'])}), role {s['role']}, "
        f"policy {literal(s['policy'])}, seed {s['seed']}. "
        "Not shown: whether the setting would still please next week."
    )


def _honesty(found: dict[str, Any] | None) -> None:
    """How well the answers were predicted, and whether a utility fits the comparisons; the alarm stands elsewhere."""
    if not found or not found["prequential"]:
        return
    score, compared = found["prequential"], found["consistency"]
    words = (
        f"Answers predicted {score['log_score'] - score['baseline']:+.1f} nats better than without learning"
        f" ({count(score['answers'], 'answer')})."
    )
    if compared:
        licence = found["utility_licence"] or "no evidence"
        words += (
            f" Utility licence: {licence}; {'' if compared['exact'] else 'at most '}{compared['to_drop']} of "
            f"{count(compared['strict'], 'strict comparison')} would have to go."
        )
    st.caption(words)


def _times(times: dict[str, Any]) -> list[tuple[object, ...]]:
    events = {0: "not by the end", **EVENTS}
    rows: list[tuple[object, ...]] = []
    for name in ("true", "declared", "accepted", "verified"):
        t = times[name]
        if t is None:
            rows.append((name, "not measured", None, None, None, None))
        else:
            clocks = f"{t['attention_s']:.0f} s", f"{t['robot_s'] / 60:.0f} min", f"{t['effort']:.0f}"
            event = "too short a run to tell" if (t["event"], t["rounds"]) == (0, 0) else events[t["event"]]
            rows.append((name, event, t["rounds"], *clocks))
    return rows


def _gap(gap: dict[str, float] | None) -> str:
    if gap is None:
        return "no evidence"
    if gap["low"] == gap["high"]:
        return f"{gap['estimate']:+.3f}"
    return f"{gap['estimate']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
