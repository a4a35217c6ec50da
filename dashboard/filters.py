"""The Analyse page's filters: widgets that show what the address says, and write the address when they are moved.

The address is the only truth: before a widget is drawn it is set to what the address says, so that a deep link, the
browser's way back and a moved widget are one and the same case.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import address
from dashboard.data import JOURNAL, Source
from experiments.analysis_data import VERSIONS
from experiments.analysis_groups import Question

_KEYS = ("source", "version", "time", "event", "group", "together", "covariates", "where", "tau", "kinds", "scenarios")
_OWN = "as recorded"


def read_address() -> address.View:
    """The view of this page's address; UserError where it holds a value that cannot be meant."""
    return address.read({key: st.query_params.get_all(key) for key in st.query_params})


def source_box(view: address.View, found: Sequence[Source]) -> None:
    """The choice between what there is, the most recent first."""
    names = [source.name for source in found]
    shown = view.source if view.source is not None else names[0]
    options = names if shown in names else [shown, *names]
    paths = {source.name: source.path for source in found}

    def label(name: str) -> str:
        return f"journal ({paths.get(name, '')})" if name == JOURNAL else paths.get(name, name)

    _set("source", shown)
    st.selectbox("Source", options, format_func=label, key="analyse-source", on_change=_other_source)


def question_boxes(view: address.View, offered: Mapping[str, Sequence[str]]) -> None:
    """The filters of one source; `offered` is `answers.choices` of it."""
    q = view.question
    left, middle, right = st.columns(3)
    plain = bool(offered["events"])
    with left:
        if not plain:
            _choice("version", "Version of time", VERSIONS, q.version)
        _choice("time", "Clock" if not plain else "Column of the time", offered["times"], q.time)
        if plain:
            _choice("event", "Column of the event", offered["events"], q.event)
    with middle:
        _several("group", "Compare by", offered["columns"], q.group or (), "the conditions that vary")
        _set("together", q.group == ())
        st.toggle("Everybody in one group", key="analyse-together", on_change=_moved)
    with right:
        _set("tau", q.tau)
        st.number_input(
            "Restricted mean to (tau)",
            value=None,  # else an emptied box is a zero
            placeholder="the smallest last time over the groups",
            key="analyse-tau",
            on_change=_moved,
        )
        _several("covariates", "Covariates of the Cox and Fine-Gray models", offered["columns"], q.covariates, "none")
    _several("where", "Only rows where", offered["where"], q.where, "COLUMN=VALUE or COLUMN!=VALUE", new=True)
    first, second = st.columns(2)
    for place, name, label, value in (
        (first, "kinds", "Mix human, pilot and simulated people (--mix-kinds)", q.mix_kinds),
        (second, "scenarios", "Mix different scenarios (--mix-scenarios)", q.mix_scenarios),
    ):
        _set(name, value)
        place.toggle(label, key=f"analyse-{name}", on_change=_moved)


def clear() -> None:
    """Back to the plain address."""
    st.query_params.clear()


def _choice(name: str, label: str, options: Sequence[str], value: str | None) -> None:
    more = [value] if value is not None and value not in options else []
    _set(name, _OWN if value is None else value)
    st.selectbox(label, [_OWN, *options, *more], key=f"analyse-{name}", on_change=_moved)


def _several(
    name: str, label: str, options: Sequence[str], value: Sequence[str], otherwise: str, new: bool = False
) -> None:
    every = list(dict.fromkeys([*options, *value]))
    _set(name, list(value))
    st.multiselect(
        label,
        every,
        placeholder=otherwise,
        key=f"analyse-{name}",
        on_change=_moved,
        accept_new_options=new,
        filter_mode="contains",
        select_all=False,  # else Enter takes all that a word fits, COLUMN!=VALUE with COLUMN=VALUE
    )


def _set(name: str, value: Any) -> None:
    st.session_state[f"analyse-{name}"] = value


def _other_source() -> None:
    """Another source begins without filters: columns and horizons of the one before need not fit it."""
    st.query_params.from_dict(address.write(address.View(st.session_state["analyse-source"])))


def _moved() -> None:
    """A widget was moved: the address says so before the page is drawn."""
    now: dict[str, Any] = {name: st.session_state.get(f"analyse-{name}") for name in _KEYS}
    group = () if now["together"] else tuple(now["group"] or ()) or None
    question = Question(
        time=_known(now["time"]),
        event=_known(now["event"]),
        group=group,
        covariates=tuple(now["covariates"] or ()),
        version=_known(now["version"]),
        tau=now["tau"],
        where=tuple(now["where"] or ()),
        mix_kinds=bool(now["kinds"]),
        mix_scenarios=bool(now["scenarios"]),
    )
    st.query_params.from_dict(address.write(address.View(now["source"], question)))


def _known(value: str | None) -> str | None:
    return None if value == _OWN else value
