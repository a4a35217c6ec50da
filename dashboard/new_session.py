"""The form of a new session: widgets in, the words of `calib run` out."""

from pathlib import Path

import streamlit as st

from calib.policies import policy_names
from calib.scenario import ROLES
from dashboard.data import data_folder
from experiments.people import person_names

_SHIPPED = Path(__file__).resolve().parent.parent / "scenarios"
_PACES = {"30 times faster": "30", "as the clock": "wall", "as fast as it goes": "virtual"}
_ROBOTS = {"simulated (simvac)": "simvac", "emulated Roomba": "roomba:emulator", "real Roomba": "roomba:"}
_ROBOTS |= {"emulated Neato": "neato:emulator", "real Neato": "neato:"}
_ROBOTS |= {"emulated rover": "rover:emulator", "real rover": "rover:"}
ME = "me"


def scenarios() -> list[str]:
    """The scenarios that may be chosen here: those that come with the lab, and TOML files of the data folder."""
    return [*sorted(p.stem for p in _SHIPPED.glob("*.toml")), *sorted(str(p) for p in data_folder().glob("*.toml"))]


def form() -> list[str] | None:
    """Draw the form; the words of `calib run` once it was sent, else None."""
    with st.form("new", border=True):
        st.subheader("New session", anchor=False)
        first, second, third = st.columns(3)
        scenario = first.selectbox("Scenario", scenarios(), key="new-scenario")
        robot = second.selectbox("Robot", list(_ROBOTS), key="new-robot")
        person = third.selectbox("Person", [ME, *person_names()], key="new-person", help="you, or a simulated person")
        first, second, third = st.columns(3)  # of its own: the Tab key and a narrow screen go row by row
        role = first.selectbox(
            "Role of the machine", ROLES, index=ROLES.index("advisor"), key="new-role",
            help="tool: you set it; advisor: it proposes, you decide",
        )  # fmt: skip
        policy = second.selectbox(
            "Questions", policy_names(), index=policy_names().index("information_gain"), key="new-policy",
            help="how it picks what to ask",
        )  # fmt: skip
        pace = third.selectbox("Pace of a simulated world", list(_PACES), key="new-pace")
        with st.expander("More"):
            a, b, c = st.columns(3)
            rounds = a.number_input(
                "At most so many rounds", 1, 1000, value=None, key="new-rounds", placeholder="the scenario's"
            )
            seed = b.number_input("Seed", 0, 2**31, value=0, key="new-seed")
            number = c.number_input("Which simulated person", 0, 2**31, value=0, key="new-number")
            a, b, c = st.columns(3)
            participant = a.text_input(
                "Participant", key="new-participant", help="pseudonym of an enrolled person; empty: a pilot session"
            )
            port = b.text_input("Port of a real robot", key="new-port", placeholder="/dev/ttyUSB0")
            audit = c.checkbox("Audit with PyMC at the end", value=True, key="new-audit", help="up to a minute")
        if not st.form_submit_button("Begin", type="primary", key="begin"):
            return None
    device = _ROBOTS[robot] + (port.strip() if robot.startswith("real ") else "")
    words = [scenario, "--device", device, "--person", "human" if person == ME else person, "--role", role]
    words += ["--policy", policy, "--seed", str(seed), "--audit", "on" if audit else "off"]
    if not robot.startswith("real "):
        words += ["--pace", _PACES[pace]]
    if rounds is not None:
        words += ["--rounds", str(rounds)]
    if person != ME:
        words += ["--person-number", str(number)]
    elif participant.strip():
        words += [f"--participant={participant.strip()}"]  # in one word: it may begin with a dash
    return words
