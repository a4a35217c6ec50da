"""The dashboard's entry: navigation over pages/. `make dashboard` serves it, on this machine and behind a token."""

import streamlit as st

from dashboard.style import PAGES

st.set_page_config(page_title="Interaction calibration lab", layout="wide", initial_sidebar_state="collapsed")
st.html(PAGES)
st.navigation(
    [
        st.Page("pages/live.py", title="Live", url_path="live", default=True),
        st.Page("pages/simulate.py", title="Simulate", url_path="simulate"),
        st.Page("pages/analyse.py", title="Analyse", url_path="analyse"),
    ],
    position="top",
).run()
