"""The panel of one simulation: its state, its progress, and its results as they arrive."""

from collections.abc import Sequence

import streamlit as st

from dashboard import figures, jobs, rows, show
from dashboard.address import analyze_words
from dashboard.arrivals import arrivals_of, duration_words
from experiments.analysis_groups import Question

REFRESH_S = 1
PATIENCE_S = 1.0  # of reading parts before a page of a finished simulation is drawn


def show_job(job: jobs.Job, found: Sequence[jobs.Job]) -> None:
    """One job, the choice between all, and what can be done with it."""
    st.subheader("Simulations started here", anchor=False)
    names = [other.name for other in found]
    st.session_state["simulate-job"] = job.name
    st.selectbox("Simulation", names, key="simulate-job", on_change=_chosen, label_visibility="collapsed")
    st.code(show.command_line(job.words), language=None, wrap_lines=True)
    state, line = jobs.state(job)
    if state == "running":
        st.button("Interrupt", key="simulate-interrupt", on_click=jobs.interrupt, args=(job,))
        st.caption("What is done stays on the disk, and resuming goes on behind it.")
    elif state == "failed":
        st.error(show.literal(line))
    elif state == "interrupted":
        st.warning(show.literal(f"It was interrupted. {line}"))
    if state in ("failed", "interrupted"):
        st.button("Resume", key="simulate-resume", on_click=_resume, args=(job,))
    if state == "finished":
        st.success("It is finished.")
        st.page_link("pages/analyse.py", label="Analyse it", query_params={"source": job.name})
    if problem := st.session_state.pop("simulate-problem", ""):
        st.error(show.literal(problem))
    reader = arrivals_of(job)
    if state != "running":
        reader.look(PATIENCE_S)  # nothing else is waiting
    goes_on = state == "running" or not reader.is_complete()
    st.fragment(_arriving, run_every=REFRESH_S if goes_on else None)(job, state)


def _chosen() -> None:
    st.query_params["job"] = st.session_state["simulate-job"]


def _resume(job: jobs.Job) -> None:
    from calib.errors import UserError

    try:
        jobs.resume(job)
    except UserError as error:
        st.session_state["simulate-problem"] = str(error)


def _arriving(job: jobs.Job, drawn_as: str) -> None:
    """Progress and results so far. It is drawn again each second while the process runs, and so has to be quick."""
    if drawn_as == "running" and not job.is_alive():
        st.rerun()
    reader = arrivals_of(job)
    progress, answer = reader.look()
    counted = reader.num_counted()
    share = min(progress.done / max(progress.parts, 1), 1.0)
    st.progress(
        share, text=f"{progress.done:,} of {progress.parts:,} parts{_rest(job, drawn_as, progress.remaining_s)}"
    )
    if answer is None:
        if drawn_as == "running":
            st.info("No part yet. The first simulation of a scenario lays out its outcome map: up to a minute.")
        return
    if counted < progress.done:
        st.caption(f"{counted:,} parts are read so far.")
    names = [group["name"] for group in answer["groups"]]
    words = [analyze_words(str(job.folder), Question())]
    show.legend(figures.style_of(names))
    every = rows.incidence(answer, 1)
    show.figure(
        "Share of people who have aligned, by time, with 95% bands, of those simulated so far",
        figures.incidence(every, names, "rounds", "aligned"),
        every,
        words,
        "who is still to come: parts arrive by condition, so groups grow one after the other. The command works once "
        "all is done.",
        "arriving",
    )
    show.table(rows.table(answer), "arriving-groups", f"{job.name}-so-far")


def _rest(job: jobs.Job, drawn_as: str, remaining_s: float | None) -> str:
    if drawn_as != "running":
        return ""
    if jobs.is_being_interrupted(job):
        return ", being interrupted"
    return ", time left not known yet" if remaining_s is None else f", {duration_words(remaining_s)} left"
