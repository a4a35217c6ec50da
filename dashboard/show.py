"""How a page shows text that others wrote, a refusal, and a figure with its data, its command and its limits."""

import html
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import streamlit as st

from calib.errors import UserError
from dashboard import figures
from dashboard import rows as of_rows
from dashboard.address import command_line

JOIN = "\u2060"  # word joiner: takes no room and keeps a word apart from what would be read into it


def literal(text: str) -> str:
    """Markdown that shows the text as it is: no HTML, link, emoji, colour or formula comes out of it."""
    escaped = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))
    # These are found after the escapes are gone: shortcodes and colours (:x:), and addresses that become links.
    escaped = re.sub(r"\\:(?=[\w\\+-])", rf"\\:{JOIN}", escaped)
    escaped = re.sub(r"(?i)(https?|ftp)\\:", rf"\1{JOIN}\\:", escaped)
    return re.sub(r"(?i)www\\\.", rf"www{JOIN}\\.", escaped).replace("\\@", f"{JOIN}\\@{JOIN}")


def count(number: int, thing: str, things: str = "") -> str:
    """A number of things in words."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


@contextmanager
def refusals() -> Iterator[None]:
    """A mistake that the user can mend is shown as its one line; the rest of the block is left out."""
    try:
        yield
    except UserError as error:
        st.error(literal(str(error)))


def notes(lines: Sequence[str]) -> None:
    """What has to be known beside the figures."""
    for line in lines:
        st.caption(literal(line))


def table(rows: Sequence[dict[str, Any]], key: str, name: str) -> None:
    """Rows as a table, and as a file."""
    import pandas as pd

    # An object column of numbers and None would be shown as text.
    frame = pd.DataFrame(list(rows)).apply(lambda c: c if c.map(type).eq(str).any() else pd.to_numeric(c))
    numbers = {c: st.column_config.NumberColumn(format="%.4g") for c in frame.columns if frame[c].dtype.kind == "f"}
    st.dataframe(frame, hide_index=True, key=f"{key}-table", column_config=numbers, placeholder="–")
    download(rows, key, name)


def download(rows: Sequence[dict[str, Any]], key: str, name: str) -> None:
    """A button that gives the rows as CSV."""
    st.download_button(
        "Data as CSV",
        lambda: of_rows.csv_text(rows),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{key}-csv",
        on_click="ignore",
    )


def figure(
    title: str,
    chart: Any,
    data: Sequence[dict[str, Any]],
    words: Sequence[Sequence[str]],
    not_shown: str,
    key: str,
) -> None:
    """A figure: what is drawn, the chart, what it does not show, and behind a click its data and its commands."""
    st.markdown(f"##### {title}")
    if isinstance(chart, figures.Drawn):
        st.vega_lite_chart(chart.data, chart.spec, width="stretch", key=f"{key}-chart", alt=title)
    else:
        st.altair_chart(chart, width="stretch", key=f"{key}-chart", alt=title)
    st.caption(f"Not shown: {not_shown}")
    behind(data, words, key)


def legend(style: figures.Style) -> None:
    """Which colour and dash is which name; the names are text, whatever they hold."""
    if len(style) < 2:
        return
    entries = [
        '<span style="display:inline-flex;align-items:center;gap:.4em;overflow-wrap:anywhere">'
        f'<span style="flex:none;width:26px;height:3px;background:{_dashed(colour, dash)}"></span>'
        f"{html.escape(name)}</span>"
        for name, (colour, dash) in style.items()
    ]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:.2em 1.2em;font-size:.875rem">{"".join(entries)}</div>')


def _dashed(colour: str, dash: Sequence[int]) -> str:
    """A line of a colour and a dash, as a background."""
    if len(dash) < 2 or not dash[1]:
        return colour
    stops, at = [], 0
    for i, length in enumerate(dash):
        stops.append(f"{'transparent' if i % 2 else colour} {at}px {at + length}px")
        at += length
    return f"repeating-linear-gradient(90deg,{','.join(stops)})"


def behind(data: Sequence[dict[str, Any]], words: Sequence[Sequence[str]], key: str) -> None:
    """Behind a click: the commands that give a figure's numbers, and its data."""
    with st.expander("Data and command", key=f"{key}-behind"):
        st.code("\n".join(command_line(line) for line in words), language=None, wrap_lines=True)
        download(data, key, key)


def no_data_yet(unfinished: Sequence[str]) -> None:
    """What to do where there is nothing to analyse."""
    from dashboard.data import data_folder, journal_url

    st.info(
        f"There is no population in {literal(str(data_folder()))} and no journal at {literal(journal_url())} yet. "
        "Simulate people, or run a session:"
    )
    st.code("calib simulate arena --people 200\ncalib run apartment", language=None)
    if unfinished:
        st.caption(f"Not finished yet: {literal(', '.join(unfinished))}")
    st.page_link("pages/simulate.py", label="Go to Simulate")
