"""Whatever the order of appending, reopening, enrolling and erasing: the journal holds what a plain dict holds."""

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from calib.errors import JournalError
from calib.journal import TYPES, open_journal
from calib.participants import enrol, erase_participant, export_participant, link

RUNS, PEOPLE = ("a", "b", "c"), ("p1", "p2")
bodies = st.dictionaries(
    st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=3
)
documents = st.tuples(st.sampled_from([name for name in TYPES if name != "start"]), bodies)


class JournalMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = tempfile.mkdtemp()
        self.url = f"sqlite:///{Path(self.folder) / 'calib.db'}"
        self.journal = open_journal(self.url)
        self.written: dict[str, list] = {}
        self.owner: dict[str, str] = {}
        self.enrolled: set[str] = set()
        self.erased_people: set[str] = set()
        self.erased_runs: set[str] = set()

    def teardown(self):
        self.journal.close()
        shutil.rmtree(self.folder)

    @rule(run=st.sampled_from(RUNS), some=st.lists(documents, min_size=1, max_size=3))
    def append(self, run, some):
        if run in self.erased_runs:
            with pytest.raises(JournalError, match="was erased"):
                self.journal.append_many(run, some)
            return
        seqs = self.journal.append_many(run, some)
        self.written.setdefault(run, []).extend(some)
        assert seqs == list(range(len(self.written[run])))[-len(some) :]

    @rule()
    def reopen(self):
        self.journal.close()
        self.journal = open_journal(self.url, create=False)

    @rule(person=st.sampled_from(PEOPLE))
    def enrol(self, person):
        if person in self.erased_people:
            with pytest.raises(JournalError, match="was erased"):
                enrol(self.journal, person, "v1")
            return
        enrol(self.journal, person, "v1", name=f"name of {person}")
        self.enrolled.add(person)

    @rule(person=st.sampled_from(PEOPLE), run=st.sampled_from(RUNS))
    def link(self, person, run):
        if person not in self.enrolled or self.owner.get(run, person) != person or run in self.erased_runs:
            with pytest.raises(JournalError):
                link(self.journal, person, run)
            return
        link(self.journal, person, run)
        self.owner[run] = person

    @rule(person=st.sampled_from(PEOPLE))
    def erase(self, person):
        if person not in self.enrolled | self.erased_people:
            with pytest.raises(JournalError, match="not in this journal"):
                erase_participant(self.journal, person)
            return
        own = {run for run, owner in self.owner.items() if owner == person}
        done = erase_participant(self.journal, person)
        assert done.runs == len(own)
        assert done.entries == sum(len(self.written.get(run, [])) for run in own)
        assert (done.already is None) == (person in self.enrolled)
        self.erased_runs |= own
        self.owner = {run: owner for run, owner in self.owner.items() if run not in own}
        self.enrolled.discard(person)
        self.erased_people.add(person)

    @invariant()
    def holds_what_was_written(self):
        listed = {row.run: row for row in self.journal.runs()}
        assert set(listed) == set(self.written)
        for run, some in self.written.items():
            read = self.journal.entries(run)
            gone = run in self.erased_runs
            assert [(entry.type, entry.body) for entry in read] == [
                (type, None if gone else body) for type, body in some
            ]
            assert self.journal.verify(run) == []
            assert listed[run].documents == len(some)
            assert (listed[run].state == "erased") == gone
            assert listed[run].participant == self.owner.get(run)
        for person in self.enrolled:
            held = export_participant(self.journal, person)
            assert {part["run"] for part in held["runs"]} == {run for run, who in self.owner.items() if who == person}
            assert held["name"] == f"name of {person}"


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_the_name_of_an_erased_run_is_not_given_away(tmp_path):
    """Also that of a run which had no entry yet: the next person's erasure met its tombstone."""
    with closing(open_journal(f"sqlite:///{tmp_path / 'calib.db'}")) as journal:
        for person in ("p1", "p2"):
            enrol(journal, person, "v1")
        link(journal, "p1", "a")
        erase_participant(journal, "p1")
        with pytest.raises(JournalError, match="run a was erased"):
            link(journal, "p2", "a")
        with pytest.raises(JournalError, match="run a was erased"):
            journal.append_many("a", [("event", {})])
        assert erase_participant(journal, "p2").runs == 0
