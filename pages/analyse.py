"""Analyse: times to alignment of one source. Every filter stands in the address of the page."""

import streamlit as st

from calib.errors import UserError
from dashboard import analyse_figures, answers, data, filters, show

st.title("Analyse", anchor=False)
found = data.sources()
if not found:
    show.no_data_yet(data.unfinished())
    st.stop()
try:
    view = filters.read_address()
    source = view.source if view.source is not None else found[0].name
    data.path_of(source)
except UserError as error:
    st.error(show.literal(str(error)))
    st.button("Show the most recent source", key="analyse-clear", on_click=filters.clear)
    st.stop()

filters.source_box(view, found)
with show.refusals():
    state = data.version_of(source)
    with st.spinner("Reading the data"):
        filters.question_boxes(view, answers.choices(source, state))
    with st.spinner("Analysing"):
        answer = answers.answer(source, state, view.question)
    analyse_figures.show_all(source, state, view.question, answer)
