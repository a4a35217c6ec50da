"""Simulate: many simulated people in a process of its own, and what has arrived of it so far."""

import os
from dataclasses import replace

import streamlit as st

from calib.engines import engine_names
from calib.policies import policy_names
from calib.scenario import ROLES
from dashboard import jobs, show, simulate_panels
from dashboard.new_session import scenarios
from dashboard.simulation import Simulation, num_sessions_words, own_name
from experiments.people import person_names

st.title("Simulate", anchor=False)
left, middle, right = st.columns(3)
scenario = left.selectbox("Scenario", scenarios(), key="simulate-scenario")
people = middle.number_input("People in each condition", 1, 10_000_000, 200, key="simulate-people")
rounds = right.number_input(
    "At most so many rounds", 1, 1000, None, key="simulate-rounds", placeholder="the scenario's"
)
left, middle, right = st.columns(3)
roles = left.multiselect("Roles of the machine", ROLES, ["tool", "advisor"], key="simulate-roles")
policies = middle.multiselect("Policies", policy_names(), ["information_gain"], key="simulate-policies")
persons = right.multiselect("Person models", person_names(), ["rational"], key="simulate-persons")
first, second, third, fourth = st.columns(4)
engines = engine_names()
engine = first.selectbox("Engine", engines, engines.index("live"), key="simulate-engine")
seed = second.number_input("Seed", 0, 2**31, 0, key="simulate-seed")
num_jobs = third.number_input("Processes", 1, 256, os.cpu_count() or 1, key="simulate-jobs")
asked = Simulation(
    scenario=scenario,
    roles=tuple(roles),
    policies=tuple(policies),
    persons=tuple(persons),
    engine=engine,
    people=people,
    rounds=rounds,
    seed=seed,
    jobs=num_jobs,
    name=own_name(scenario, seed),
)
asked = jobs.named(asked)
name = fourth.text_input("Folder", key="simulate-name", placeholder=asked.name)
with show.refusals():
    asked = replace(asked, name=name or asked.name)
    words = asked.words()
    st.markdown(num_sessions_words(asked))
    st.code(show.command_line(words), language=None, wrap_lines=True)
    if st.button("Start", type="primary", key="simulate-start"):
        st.query_params["job"] = jobs.start(asked).name

with show.refusals():
    found = jobs.jobs()
    if "job" in st.query_params or found:
        simulate_panels.show_job(jobs.find(st.query_params.get("job"), found), found)
    else:
        st.info("No simulation was started here yet.")
