"""The figures of the Analyse page, in their order: what is drawn, by which command, and what it does not show."""

from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import answers, figures, rows, show
from dashboard.address import analyze_words
from dashboard.data import path_of
from experiments.analysis_groups import Question

MOST_SMALL = 12  # small charts of one group each
FIRST_ONLY = (
    "what happened after the first alignment; who leaves unaligned counts as not aligned to the end of the mean."
)


def show_all(source: str, state: str, question: Question, found: answers.Answer) -> None:
    """Every figure of an answer; the slow ones come last."""
    path = path_of(source)
    words = [analyze_words(path, question)]
    names = [group["name"] for group in found["groups"]]
    version = f"{found['version']} " if found["version"] else ""
    unit = rows.unit_of(found["time"], found["version"])
    whom = f"{show.count(found['n'], 'person', 'people')} in {show.count(len(names), 'group')}"
    st.markdown(show.literal(f"{whom}, {version}time to alignment in {unit}"))
    if len(names) > figures.MOST_GROUPS:
        st.caption(f"The charts have room for {figures.MOST_GROUPS} groups; the tables and files hold all.")
    show.legend(figures.style_of(names))
    times(found, names, unit, words)
    show.notes(found["notes"])
    declarations(source, state, question, found, names, unit, path)
    details(found, names, [[*words[0], "--details", "--json"]])
    tests(source, state, question, found, words)


def times(found: answers.Answer, names: list[str], unit: str, words: list[list[str]]) -> None:
    """Cumulative incidence of every event, restricted means, and the table."""
    first, *others = rows.causes(found)
    left, right = st.columns([3, 2])
    with left:
        _incidence(found, names, unit, words, first)
    with right:
        means = rows.restricted_means(found)
        tau = found["groups"][0]["rmst"]["tau"]
        show.figure(
            f"Mean time without alignment up to {tau:g}, with 95% intervals",
            figures.whiskers(means, names, unit, zero=False),
            means,
            words,
            FIRST_ONLY + " A dot without an interval has no known error.",
            "means",
        )
    for place, code in zip(st.columns(max(len(others), 1)), others, strict=False):
        with place:
            _incidence(found, names, unit, words, code)
    st.markdown("##### People, events and means by group")
    show.table(rows.table(found), "groups", "groups")


def _incidence(found: answers.Answer, names: list[str], unit: str, words: list[list[str]], code: int) -> None:
    event = rows.event_name(code)
    every = rows.incidence(found, code)
    more = "" if len(every) <= figures.LARGEST else " Some of the smaller steps are left out of the drawing."
    competing = "how certain the curves are jointly; the bands hold at one time each."
    show.figure(
        f"Share of people who {'have ' if code != 2 else ''}{_did(code, event)}, by time, with 95% bands",
        figures.incidence(every, names, unit, event),
        every,
        words,
        competing + more,
        f"incidence-{code}",
    )


def _did(code: int, event: str) -> str:
    return {1: "aligned", 2: "gave up", 3: "lost their robot"}.get(code, f"had {event}")


def declarations(
    source: str, state: str, question: Question, found: answers.Answer, names: list[str], unit: str, path: str
) -> None:
    """False declarations, and the four versions of time beside each other."""
    answered = answers.versions(source, state, question)
    if not answered:
        return
    show.legend(figures.style_of(names))
    left, right = st.columns(2)
    with left:
        rates = rows.false_declarations(found)
        show.figure(
            "Share of the declarations that were false, with 95% intervals",
            figures.whiskers(rates, names, "share of declarations", as_percent=True),
            rates,
            [analyze_words(path, question)],
            "how far from alignment a false declaration was. It is known of simulated people only.",
            "false-declarations",
        )
    with right:
        every = rows.versions(answered)
        taus = [a["groups"][0]["rmst"]["tau"] for a in answered.values() if not isinstance(a, str)]
        commands = [
            analyze_words(path, replace(question, version=version, tau=float(min(taus)) if min(taus) > 0 else None))
            for version, a in answered.items()
            if not isinstance(a, str)
        ]
        show.figure(
            f"Mean time without alignment up to {min(taus):g}, by version of time" if taus else "Versions of time",
            figures.whiskers(every, names, unit, zero=False),
            every,
            commands,
            "whether the versions agree for one person; these are means over people.",
            "versions",
        )
        show.notes([f"{version}: {told}" for version, told in answered.items() if isinstance(told, str)])


def details(found: answers.Answer, names: list[str], words: list[list[str]]) -> None:
    """Degree over rounds, a small chart for each group, and the six gaps."""
    by_group = {g["name"]: rows.degree(g) for g in found["groups"]}
    every = [row for degrees in by_group.values() for row in degrees]
    st.markdown("##### Degree of alignment by round: median, and the middle 90% of people")
    if every:
        show.legend(figures.degree_style())
        shown = [name for name in names if by_group[name]][:MOST_SMALL]
        for first in range(0, len(shown), 3):
            for place, name in zip(st.columns(3, vertical_alignment="bottom"), shown[first : first + 3], strict=False):
                with place:
                    st.markdown(show.literal(name))
                    title = f"Degree of alignment by round, {name}"
                    st.altair_chart(figures.degree(by_group[name]), width="stretch", key=f"degree-{name}", alt=title)
        if len(shown) < len(names):
            st.caption(f"{len(names) - len(shown)} more groups are in the data below.")
        st.caption(
            "Not shown: people who have left; later rounds are of those who stayed. The band is the spread of people, "
            "not an error of the median."
        )
        show.behind(every, words, "degree")
    else:
        st.info("The degree by round is not recorded in this source.")
    gaps = rows.gaps(found)
    if gaps:
        show.legend(figures.style_of(names))
        show.figure(
            "Mean of the six gaps in the last completed round, in the order of the identity, with 95% intervals",
            figures.whiskers(gaps, names, "utility (0 worst, 1 best)"),
            gaps,
            words,
            "the spread between people, and rounds before the last. The six add up to the distance from the best.",
            "gaps",
        )
    else:
        st.markdown("##### The six gaps")
        st.info("The gaps are not recorded in this source.")


def tests(source: str, state: str, question: Question, found: answers.Answer, words: list[list[str]]) -> None:
    """Contrasts, log-rank, Cox and Fine-Gray."""
    with st.expander("Contrasts, log-rank, Cox and Fine-Gray", key="analyse-tests"):
        if found["contrasts"]:
            st.markdown("**Differences of restricted means**")
            show.table(rows.contrasts(found), "contrasts", "contrasts")
        slow = answers.many_times(found, answers.table_of(source, state))
        if slow and not st.toggle("Fit the models; with this many different times it takes up to a minute", key="fit"):
            return
        with st.spinner("Fitting"):
            fitted: dict[str, Any] = answers.models(source, state, question)
        if fitted["logrank"]:
            test = fitted["logrank"]
            st.markdown(f"**Log-rank**: chi2 {test['chi2']:.2f}, {test['df']} degrees of freedom, p {_p(test['p'])}")
        for model, title in (
            ("cox", "Cox model of the hazard of alignment"),
            ("fine_gray", "Fine-Gray model of the incidence of alignment"),
        ):
            if fitted[model]:
                st.markdown(f"**{title}** ({fitted[model][0]['ties']} ties)")
                show.table(rows.terms(fitted, model), model, model)
        show.notes([note for note in fitted["notes"] if note not in found["notes"]])
        st.caption(
            "Not shown: log-rank and Cox censor who leaves unaligned, and take people who are in two groups for "
            "different people; intervals and tests are not adjusted for their number."
        )
        st.code("\n".join(map(show.command_line, words)), language=None, wrap_lines=True)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
