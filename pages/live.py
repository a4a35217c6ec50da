"""Live: begin a session or attach to one, answer its questions, see the robot, and stop it."""

import os
import secrets

import streamlit as st

from calib.errors import JournalError, UserError
from calib.registry import is_alive, runners
from dashboard import data
from dashboard import live_panels as panels
from dashboard import start as starting
from dashboard.link import HEARTBEAT_S, REFRESH_S, Link, entry_of, stop
from dashboard.new_session import form
from dashboard.pulse import pulse, wake
from dashboard.show import literal

_WAITING_S = 5.0  # for something that a fragment looks for twice a second

state, query = st.session_state, st.query_params


def stop_now(link: Link) -> None:
    """The STOP button: by a connection of its own. It leaves the session's state alone, whose use may interrupt it."""
    link.note = f"STOP: {stop(link.entry.run)}"
    link.beat(anew=True)


def watch_visible() -> None:
    """The browser says whether this page is seen."""
    if "link" in state:  # the browser may say so when the page has just been left
        state["link"].note_visible(bool(state["pulse"].visible))


def attach(run: str) -> None:
    """Open a run on this page, with a lease of its own: the one that it had, where it has led this run before."""
    link = state.get("link")
    query["run"], query["lease"] = run, link.lease if link and link.entry.run == run else secrets.token_urlsafe(9)


def leave() -> None:
    """Back to the choice of a session; the run itself goes on."""
    if "link" in state:
        state.pop("link").close()
    query.clear()


def choose() -> None:
    """No run is open: begin one, or take one that is there."""
    st.title("Live session", anchor=False)
    # Held in a list: a second click interrupts this script whenever it touches the state, and must find what the first
    # has begun.
    begun = state.setdefault("begun", [])
    words = form()
    if words and (not begun or begun[-1].has_ended()):
        try:
            begun.append(starting.start(words))
        except (OSError, ValueError) as error:  # a word with a zero byte
            st.error(literal(f"the session could not be started: {error}"))
    if begun:
        opening()
        wake(_WAITING_S)
    living = runners()
    if living:
        st.subheader("Going on now", anchor=False)
    for entry in living:
        panels.offer(f"{entry.run} on {entry.device}", "Open", entry.run, attach)
    panels.past(attach)


@st.fragment(run_every=REFRESH_S)
def opening() -> None:
    """Wait for the run of a session that was just started."""
    started = state["begun"][-1]
    if run := started.run():
        attach(run)  # and again, where the browser asks for the page by its old address meanwhile: see `begun` below
        st.rerun()
    if started.has_ended():
        st.error(literal(f"the session did not begin: {started.last_line()}"))
        return
    st.info("The session begins. The first one of a scenario lays out its outcome map: half a minute.")


@st.fragment(run_every=REFRESH_S)
def beat(link: Link) -> None:
    """The page's sign of life, and the line that says how things stand. Where more has changed, all is drawn anew."""
    link.beat()
    if link.ended or panels.drawn(link) != state.get("drawn"):
        st.rerun()
    st.text(panels.state_line(link))
    with st.container(key="pulse_box"):
        pulse(
            key="pulse",
            data={"beat": link.heard, "late": panels.late_words(link)},
            default={"visible": True},
            on_visible_change=watch_visible,
        )


@st.fragment(run_every=REFRESH_S)
def plan(link: Link) -> None:
    """The floor plan with the robot, as `beat` has last heard of it."""
    if link.documents:
        context = next(c for c in panels.scenario_of(link).contexts if c.name == link.status["context"])
        panels.plan_picture(context.plan, link)


def session(link: Link) -> None:
    """The page of a run that goes on: its question beside the plan, or the plan beside the figures."""
    with st.container(key="stop_bar"):
        st.button(
            "STOP", key="stop", type="primary", width="stretch", shortcut="Escape", on_click=stop_now, args=(link,)
        )
    link.beat()
    state["drawn"] = panels.drawn(link)
    beat(link)
    wake(HEARTBEAT_S / 2)
    panels.lead(link)
    left, right = st.columns([3, 2], gap="large")
    asks = link.status.get("phase") != "running"
    with left:
        if asks:
            panels.question(link)
        else:
            plan(link)
    with right:
        if asks:
            panels.outcome(link)
            plan(link)
            panels.controls(link)
        else:
            panels.watched(link)
    with st.container() if asks else right:
        if link.documents:
            panels.charts(link.documents, [a.name for a in panels.scenario_of(link).attributes], wide=asks)
        if not asks:
            panels.controls(link)


@st.fragment(run_every=2 * REFRESH_S)
def auditing(link: Link) -> None:
    """The runner is still there after its session, and not for a moment only: it audits."""
    state["looked"] = state.get("looked", 0) + 1
    if is_alive(link.entry):
        if state["looked"] > 2:
            st.info("The audit with PyMC is under way, up to a minute. The session itself is complete.")
    else:
        st.rerun()


@st.fragment(run_every=2 * REFRESH_S)
def resumed(run: str) -> None:
    """A run that nobody runs may have a runner again."""
    if entry_of(run):
        st.rerun()


def finished(run: str, url: str) -> None:
    """The page of a run that is over, or of no run at all."""
    try:
        entries = panels.read_run(run, url)
    except (UserError, JournalError) as error:
        st.error(literal(f"run {run}: {error}"))
        return
    if entries and entries[0].body is None:
        st.info("What this run held has been erased, as its participant asked.")
    elif any(e.type == "stop" for e in entries):
        if "link" in state and is_alive(state["link"].entry):
            auditing(state["link"])
            wake(_WAITING_S)
        panels.summary(entries, url)
    elif entries:
        command = f"calib resume {entries[0].run}{data.journal_words(url)}"
        st.warning(f"This run has no end yet and nobody runs it: `{command}` goes on.")
        resumed(run)
        wake(_WAITING_S)
    else:
        st.error("There is no run of this name.")


if "link" in state and (note := state["link"].note):
    st.warning(literal(note))
if os.environ.get("CALIB_GUARDED") != "1":
    st.caption("Served without a token: anybody on this machine can lead. `make dashboard` asks for one.")
if "run" not in query:
    choose()
else:
    if "begun" in state:  # it is open now
        state["begun"].clear()
    run = query["run"]
    entry, lease = entry_of(run), query.get("lease", "")
    link = state.get("link")
    # Of another run, of a runner that was since replaced (`calib resume`), of an address that is open no more.
    if link is not None and (link.entry.run != run or (entry and (link.entry, link.lease) != (entry, lease))):
        state.pop("link").close()
    if entry is not None and "link" not in state:
        state["link"] = Link(entry, lease)
    if entry is not None and state["link"].status.get("phase") != "finished":
        session(state["link"])
    else:
        finished(run, state["link"].entry.journal if "link" in state else data.journal_url())
    st.button("Other sessions", key="leave", on_click=leave, type="tertiary")
