"""Leading a run from a page: the sign of life that it promises, the lease by which a reload keeps the lead."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calib.control import ControlClient
from calib.errors import UserError
from calib.lead import Lead
from calib.registry import RunnerEntry
from sessions import Lab, quick_scenario, wait_for


class Page:
    """A client as a page is one."""

    def __init__(self, entry: RunnerEntry) -> None:
        self.client = ControlClient(entry)

    def say(self, do: str, **more: Any) -> dict[str, Any]:
        return self.client.request({"do": do, **more})

    def status(self) -> dict[str, Any]:
        return dict(self.say("status")["status"])


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[RunnerEntry]:
    """A run on the simulator at twice the clock, led by nobody yet."""
    lab = Lab(tmp_path)
    with lab.going("run", quick_scenario(tmp_path), "--pace", "2", "--rounds", "2", "--json"):
        path = wait_for(lambda: list(tmp_path.glob("calib/*.json")))[0]
        yield RunnerEntry(**json.loads(path.read_text()))


def moving(page: Page) -> bool:
    """Whether a run is under way and has come some way."""
    status = page.status()
    return bool(status["phase"] == "running" and len(page.say("path")["points"]) > 2)


def test_a_leader_that_falls_silent_stops_the_robot_and_arms_nothing(entry: RunnerEntry) -> None:
    leader, watcher = Page(entry), Page(entry)
    leader.say("lead", heartbeat_s=2)

    def beats_and_moves() -> bool:
        leader.say("beat")
        return moving(watcher)

    wait_for(beats_and_moves)
    status = wait_for(lambda: (s := watcher.status())["phase"] == "unarmed" and s)
    assert status["pending"]["question"] == "arm" and status["pending"]["within_s"] is None
    assert "no sign of life" in status["pending"]["reason"] and status["lead_silent"]
    there = watcher.say("path")["points"]
    time.sleep(1.0)
    assert watcher.say("path")["points"] == there, "nothing moves while nobody leads"
    with pytest.raises(UserError, match="another client leads"):
        watcher.say("arm", number=status["pending"]["number"])
    leader.say("beat")
    assert watcher.status()["phase"] == "unarmed", "a leader that is back arms nothing by being back"
    leader.say("arm", number=status["pending"]["number"])
    wait_for(beats_and_moves)


def test_a_leader_that_speaks_keeps_the_robot_going(entry: RunnerEntry) -> None:
    leader = Page(entry)
    leader.say("lead", heartbeat_s=0.5)
    begun, far = time.monotonic(), 0
    while time.monotonic() - begun < 3.0 or not far:
        assert leader.say("beat")["status"]["phase"] != "unarmed"
        far = max(far, len(leader.say("path")["points"]))
        time.sleep(0.05)


def test_a_run_never_starts_for_a_leader_that_is_gone(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    scenario = quick_scenario(tmp_path, ready=True)
    with lab.going("run", scenario, "--person", "human", "--pace", "2", "--rounds", "2", "--json"):
        path = wait_for(lambda: list(tmp_path.glob("calib/*.json")))[0]
        page, watcher = (Page(RunnerEntry(**json.loads(path.read_text()))) for _ in range(2))
        page.say("lead", heartbeat_s=0.5, lease="a")
        wait_for(lambda: watcher.status().get("lead_silent") and watcher.status().get("pending"))
        asked = watcher.status()["pending"]
        assert asked["question"] == "choice", "a question waits for whoever comes back"
        page.say("answer", question="choice", number=asked["number"], value=0)
        wait_for(lambda: (watcher.status()["pending"] or {}).get("question") == "ready")


def test_only_the_lease_renews_and_only_after_silence(entry: RunnerEntry) -> None:
    first, second, thief = Page(entry), Page(entry), Page(entry)
    first.say("lead", heartbeat_s=5, lease="mine")
    for lease in ("other", None, 7, ""):
        with pytest.raises(UserError, match="another client leads"):
            thief.say("lead", lease=lease, renew=True)
    with pytest.raises(UserError, match="another page with this lease leads"):
        second.say("lead", lease="mine", renew=True)
    first.client.close()

    def renewed() -> bool:
        try:
            second.say("lead", heartbeat_s=5, lease="mine", renew=True)
        except UserError:
            return False
        return True

    wait_for(renewed)
    assert thief.status()["lead"] == second.say("lead", lease="mine", renew=True)["client"]
    assert thief.say("lead")["client"] == thief.status()["lead"], "whoever says so takes over"
    with pytest.raises(UserError, match="another client leads"):
        second.say("lead", lease="mine", renew=True)


@pytest.mark.parametrize("heartbeat_s", [0, -1, "3", True, [1]])
def test_a_promise_is_a_number_of_seconds(entry: RunnerEntry, heartbeat_s: object) -> None:
    with pytest.raises(UserError, match="no number of seconds"):
        Page(entry).say("lead", heartbeat_s=heartbeat_s)


def test_where_nobody_leads_the_first_leads_and_the_second_robs_nobody(entry: RunnerEntry) -> None:
    first, second = Page(entry), Page(entry)
    assert not first.status().get("lead") and not second.status().get("lead"), "both have seen that nobody leads"
    leader = first.say("lead", heartbeat_s=5, lease="one", renew=True)["client"]
    with pytest.raises(UserError, match="another client leads"):
        second.say("lead", heartbeat_s=5, lease="two", renew=True)
    assert wait_for(lambda: second.status().get("lead")) == leader


def test_a_leader_that_promises_nothing_and_hangs_up_stops_the_robot(entry: RunnerEntry) -> None:
    leader, watcher = Page(entry), Page(entry)
    leader.say("lead")
    wait_for(lambda: moving(watcher))
    leader.client.close()
    status = wait_for(lambda: (s := watcher.status())["phase"] == "unarmed" and s, 3.0)
    assert "hung up" in status["pending"]["reason"] and status["lead_silent"]
    watcher.say("lead", heartbeat_s=5)
    watcher.say("arm", number=status["pending"]["number"])
    wait_for(lambda: moving(watcher))


def test_the_lead_handed_over_in_the_middle_of_a_run_leaves_it_going(entry: RunnerEntry) -> None:
    first, second = Page(entry), Page(entry)
    first.say("lead", heartbeat_s=2)

    def beats_and_moves() -> bool:
        first.say("beat")
        return moving(first)

    wait_for(beats_and_moves)
    second.say("lead", heartbeat_s=5)
    first.client.close()  # what it has promised counts no more
    time.sleep(2.7)
    status = second.status()
    assert status["phase"] != "unarmed" and not status["lead_silent"]


def test_who_sits_at_the_terminal_leads_again_where_the_page_is_silent(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    words = ("--person", "human", "--pace", "2", "--rounds", "2", "--audit", "off")
    with lab.going("run", quick_scenario(tmp_path), *words) as process:
        path = wait_for(lambda: list(tmp_path.glob("calib/*.json")))[0]
        page, watcher = (Page(RunnerEntry(**json.loads(path.read_text()))) for _ in range(2))
        wait_for(lambda: watcher.status().get("pending"))
        page.say("lead", heartbeat_s=0.5, lease="a")
        page.client.close()
        wait_for(lambda: watcher.status()["lead_silent"])
        assert process.stdin is not None
        process.stdin.write("1\n")
        process.stdin.flush()
        wait_for(lambda: moving(watcher), 20.0)
        assert watcher.status()["lead"] is None


def test_a_page_that_joins_late_gets_the_documents_and_the_path(entry: RunnerEntry) -> None:
    page = Page(entry)
    status = wait_for(lambda: (s := page.status()).get("documents", 0) >= 2 and s)
    documents = page.say("documents")["documents"]
    assert [d["type"] for d in documents[:2]] == ["start", "round"] and documents[1]["round"] == 1
    assert len(documents) >= status["documents"]
    assert page.say("documents", **{"from": 1})["documents"][0] == documents[1]
    for strange in (-1, 10**9, "1", None, 1.5):
        assert page.say("documents", **{"from": strange})["ok"]
    points = wait_for(lambda: (p := page.say("path")["points"]) and len(p) > 5 and p)
    steps = [((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5 for a, b in itertools.pairwise(points)]
    assert max(steps) < 0.6, "a second's way at half a metre a second, and some"


def test_hidden_time_is_not_attention(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with lab.going(
        "run", quick_scenario(tmp_path), "--person", "human", "--pace", "virtual", "--rounds", "2", "--json"
    ):
        path = wait_for(lambda: list(tmp_path.glob("calib/*.json")))[0]
        page = Page(RunnerEntry(**json.loads(path.read_text())))
        asked = wait_for(lambda: page.status().get("pending"))
        begun = time.monotonic()
        page.say("visible", visible=False)
        time.sleep(1.5)
        page.say("visible", visible=True)
        hidden_s = 1.5
        page.say("answer", question="choice", number=asked["number"], value=0)
        whole_s = time.monotonic() - begun

        def answers() -> list[dict[str, Any]]:
            events = (e["body"] for e in lab.entries() if e["type"] == "event")
            return [body for body in events if body["event"] == "Answer"]

        answer = wait_for(answers)[0]
    assert answer["attention_s"] < answer["wall_s"] - hidden_s + 0.05
    assert whole_s > hidden_s


def answered(lab: Lab, page: Page, number: int) -> float:
    """The attention in seconds that the journal has for the answer that is given here and now."""
    page.say("answer", question="choice", number=number, value=0)
    return float(
        wait_for(lambda: [e["body"] for e in lab.entries() if e["body"].get("event") == "Answer"])[0]["attention_s"]
    )


def test_attention_is_that_of_who_leads_and_none_while_the_leader_is_silent(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    words = ("--person", "human", "--pace", "virtual", "--rounds", "2", "--json")
    with lab.going("run", quick_scenario(tmp_path), *words):
        path = wait_for(lambda: list(tmp_path.glob("calib/*.json")))[0]
        first, second = (Page(RunnerEntry(**json.loads(path.read_text()))) for _ in range(2))
        asked = wait_for(lambda: first.status().get("pending"))
        begun = time.monotonic()
        first.say("lead", heartbeat_s=0.5, lease="a")
        first.say("visible", visible=False)
        first.client.close()
        wait_for(lambda: second.status()["lead_silent"])
        time.sleep(1.0)
        second.say("lead", heartbeat_s=60, lease="b")  # a page that is seen, whatever the other one was
        taken = time.monotonic()
        time.sleep(1.0)
        seconds = answered(lab, second, asked["number"])
        now = time.monotonic()
    assert 1.0 <= seconds < now - begun - 1.0, "without the second of silence"
    assert seconds < now - taken + 1.0


def test_a_person_is_shown_what_the_run_did_before_the_next_question(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with lab.going("run", quick_scenario(tmp_path), "--person", "human", "--pace", "virtual", "--rounds", "2"):
        path = wait_for(lambda: list(tmp_path.glob("calib/*.json")))[0]
        page = Page(RunnerEntry(**json.loads(path.read_text())))
        asked = wait_for(lambda: page.status().get("pending"))
        assert page.status()["outcome"] is None
        page.say("answer", question="choice", number=asked["number"], value=0)
        asked = wait_for(lambda: (p := page.status().get("pending")) and p["question"] == "comparison" and p)
        seen = page.status()["outcome"]
        page.say("answer", question="comparison", number=asked["number"], value=2)
        (document,) = wait_for(lambda: page.say("documents", **{"from": 1})["documents"])
    assert seen["end"] == document["end"] == "finished"
    shown = {row["attribute"]: row["value"] for row in seen["card"]}
    for name, value in shown.items():
        assert abs(value - document["outcome"][name]["value"]) <= 0.5


def test_a_promise_is_missed_once_and_the_next_word_mends_it() -> None:
    lead = Lead()
    assert lead.miss(1e6) is None, "nobody has promised anything"
    assert lead.take({"heartbeat_s": 4, "lease": "a"}, "one", 10.0)
    assert lead.miss(13.9) is None
    assert "for 4 s" in str(lead.miss(14.0)) and lead.is_lost
    assert lead.miss(15.0) is None, "said once"
    lead.hear("two", 16.0)
    assert lead.is_lost, "somebody else's word is no sign of life"
    lead.hear("one", 16.0)
    assert not lead.is_lost and lead.miss(19.9) is None and lead.miss(20.0)


@pytest.mark.parametrize(("given", "kept"), [(0.01, 0.5), (3, 3.0), (1e9, 60.0)])
def test_a_promise_is_kept_within_its_bounds(given: float, kept: float) -> None:
    lead = Lead()
    lead.take({"heartbeat_s": given}, "one", 0.0)
    assert lead.miss(kept - 0.01) is None and lead.miss(kept)


def test_a_renewed_lead_is_no_other_one() -> None:
    lead = Lead()
    words = {"heartbeat_s": 4, "lease": "a", "renew": True}
    assert lead.take(words, "one", 0.0), "where nobody leads, who would renew leads"
    assert not lead.take(words, "one", 1.0)
    with pytest.raises(ValueError, match="another page with this lease leads"):
        lead.take(words, "two", 3.4)
    assert lead.client == "one" and lead.hang_up("one", 3.45) is None, "its page may come back"
    assert not lead.take(words, "two", 3.5)
    assert lead.client == "two"
    assert lead.take({"lease": "b"}, "three", 3.6)
    assert lead.hang_up("two", 3.7) is None and lead.hang_up("three", 3.8) == "who led has hung up"


def test_attention_counts_while_somebody_who_leads_can_see_the_question() -> None:
    lead = Lead()
    lead.take({"heartbeat_s": 4, "lease": "a"}, "one", 0.0)
    lead.ask(10.0)
    lead.show(False, 11.0)
    assert lead.attention_s(15.0) == 1.0
    assert lead.miss(15.0)
    lead.hear("one", 16.0)
    assert lead.attention_s(17.0) == 1.0, "back, and still behind another tab"
    lead.show(True, 18.0)
    assert lead.attention_s(20.0) == 3.0
    lead.show(False, 20.0)
    lead.ask(30.0)
    assert lead.attention_s(40.0) == 0.0, "asked behind another tab"
    lead.give_to_terminal(40.0)
    assert lead.attention_s(41.0) == 1.0, "whoever sits at the terminal sees it, whatever the page was"
    assert lead.attention_s(1000.0) == 120.0
