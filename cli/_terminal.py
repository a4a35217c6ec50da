"""What a person at a terminal sees and types."""

import math
import os
import sys
import threading
from typing import Any

from calib.calibration import map_notes
from calib.events import Ask, Quit
from calib.identify import in_words
from calib.runner import Runner
from calib.setup import Setup
from cli._arguments import DEFAULT_JOURNAL

_MIN_READING_S = 0.2  # at a terminal, what comes sooner was typed before the question could be read
_EQUAL = ("=", "e", "equal", "3")


class Screen:
    """Prints a session as it goes: to standard output, or to standard error where standard output is for JSON."""

    def __init__(self, setup: Setup, quiet: bool) -> None:
        self.setup = setup
        self.quiet = quiet
        self.out = sys.stderr if quiet else sys.stdout
        self.live = self.out.isatty()
        self._bar = False
        self.broken = False
        self.listens = False  # somebody at this terminal is asked
        self._run = ""

    def line(self, text: str = "") -> None:
        """One line."""
        self.close()
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        """Nobody has to look: a terminal that was closed, or a pipe's reader that has gone, ends no session."""
        try:
            self.out.write(text)
            self.out.flush()
        except OSError:
            self.live = False
            # What is still buffered would fail again when Python exits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.out.fileno())
            os.close(nowhere)

    def note(self, text: str) -> None:
        """A line that is no result."""
        if not self.quiet:
            self.line(text)

    def opening(self, run: str, facts: dict[str, Any]) -> None:
        """The head of the table of rounds."""
        self._run = run
        if self.quiet:
            return
        setup = self.setup
        self.line(f"{setup.scenario.title}")
        self.line(
            f"run {run}: {facts['device_spec']} ({facts['rung']}), person {facts['person_model']} ({facts['kind']}), "
            f"role {setup.role}, policy {setup.policy}, seed {setup.seed}"
        )
        for note in map_notes(setup.record()):
            self.line(note)
        self.line()
        self.line(f"{'':>5} {'context':<9} {'offered':<27} {'chosen':<12} {'done':<29} {'degree of alignment'}")

    def tell(self, what: str, body: dict[str, Any]) -> None:
        """What the runner reports."""
        if what == "progress":
            self._progress(body)
        elif what == "lost":
            self.line(f"      the robot is lost: {body['reason']}")
            self.line(f"      paused; nothing moves; trying again for {body['waits_s']:g} s, then the run ends")
        elif what == "ask" and body["question"] == "arm" and not self.listens:
            self.line("      the robot answers; nothing moves until somebody allows it:")
            self.line(f"      calib attach {self._run} --lead, then arm{_within(body)}")
        elif what == "running" and self.listens:
            self.line(f"  the robot cleans; it is predicted to come to: {card(body['predicted'])}")
            self.line("  cut to end this run, stop to end the session")
        elif what == "outcome" and self.listens and body["card"] is None:
            self.line("  cut short: there is no outcome of this run")
        elif what == "outcome" and self.listens:
            self.line(f"  {'what it would do' if body['end'] == 'card' else 'what the run did'}: {card(body['card'])}")
        elif what == "retry" and not self.quiet:
            self.line(f"      still lost: {body['reason']}")
        elif self.quiet:
            return
        elif what == "round":
            self._round(body)
        elif what == "stop":
            if self.broken:
                self.line("      ! breaks a hard limit of the scenario in this context: its degree is 0")
            self.line(f"      end: {body['reason']}")

    def _progress(self, body: dict[str, Any]) -> None:
        if not self.live:
            return
        done = int(20 * body["fraction"])
        bar = "#" * done + "." * (20 - done)
        self._write(f"\r      cleaning [{bar}] {body['elapsed_s'] / 60:5.1f} min")
        self._bar = True

    def _round(self, body: dict[str, Any]) -> None:
        offered = "the menu" if body["proposal"] is None else self.setting(body["proposal"])
        chosen = "accepted" if body["accepted"] else self.setup.scenario.modes[body["option"]].name
        realised = body["realised"]
        done = "outcome card" if realised is None else brief(realised)
        done += " !" if body["breaks_limit"] else ""
        self.broken |= body["breaks_limit"]
        self.line(
            f"{body['round']:>5} {body['context']:<9} {offered:<27} {chosen:<12} {done:<29} {gauge(body['degree'])}"
        )
        if (watched := body.get("watched")) and watched["cut_short"]:
            self.line(f"      cut short after {watched['minutes']:.0f} min")
        if missed := body.get("floors_missed"):
            self.line(f"      ! this run missed its floor of {', '.join(missed)}: a fault of the robot, not of a wish")
        alarm = body.get("alarm")
        if alarm and alarm["round"] == body["round"]:
            self.line(f"      ! {alarm['says']}")
        if asked := body.get("change", {}).get("asked"):
            believed = f"P(changed) {asked['p_changed']:.2f}, before round {asked['likely']}"
            self.line(f"      ? changed or misread: {asked['answer']} (believed before the answer: {believed})")

    def setting(self, number: int) -> str:
        """A setting in a few words: its mode where it is one."""
        mode = self.setup.setting_mode[number]
        return self.setup.scenario.modes[mode].name if mode >= 0 else brief(vars(self.setup.settings[number]))

    def close(self) -> None:
        """Leave a clean line."""
        if self._bar:
            self._bar = False
            self._write("\r\x1b[K")

    def summary(self, s: dict[str, Any]) -> None:
        """The end of a session."""
        say = self.line
        eps = self.setup.scenario.eps
        say()
        say(f"stopped after {s['rounds']} rounds: {s['stop_reason']}")
        say(f"degree of alignment  {gauge(s['degree'])}   P(A >= {1 - eps:g}) = {s['degree']['p_aligned']:.2f}")
        self._alarm(s.get("honesty"))
        if s["true_degree"] is not None:
            say(f"  true degree        {s['true_degree']:.3f}  (known in simulation only)")
        say(f"  before any answer  {gauge(s['prior_only'])}")
        if s["lift"]:
            say(
                f"  lift over default  {s['lift']['estimate']:+.2f} [{s['lift']['low']:+.2f}, {s['lift']['high']:+.2f}]"
            )
        if s["identified"]:
            say(f"  the answers speak about {in_words(s['identified'])}")
        if "change" in s:
            self._change(s["change"])
        say("time to alignment")
        for name in ("true", "declared", "accepted", "verified"):
            say(f"  {name:<18} {when(s['time'][name])}")
        if s.get("gaps_round"):
            say(f"gaps of round {s['gaps_round']} ({s['gaps_known']}), in utility 0..1")
            for name, gap in s["gaps"].items():
                say(f"  {name:<18} {interval(gap)}")
        say("what would make up for what is missing, one attribute at a time")
        for r in s["regret"]:
            if r["median"] is None:
                say(f"  {r['attribute']:<18} hardly counts for this person")
            else:
                more = "" if r["attainable"] >= 0.5 else "more than "
                say(f"  {r['attribute']:<18} {more}{r['median']:+.3g} {r['unit']} [{r['low']:+.3g}, {r['high']:+.3g}]")
        self._honesty(s.get("honesty"))
        self._audit(s)
        where = "" if s["journal"] == DEFAULT_JOURNAL else f" --journal {s['journal']}"
        say(f"journal {s['journal']}, run {s['run']}  (calib replay {s['run']}{where})")

    def _change(self, found: dict[str, Any]) -> None:
        """Whether they wanted something else in the end, and what they said of it."""
        since = since_words(found["since"]).lower()
        said = "".join(f"; round {a['round']}: {a['answer']}" for a in found["asked"])
        self.line(f"  they want something else, {since}: {found['p_changed']:.0%} probable{said}")

    def _alarm(self, found: dict[str, Any] | None) -> None:
        """What the degree supposes and these answers do not show; nothing where there is no alarm."""
        alarm = found and found["alarm"]
        if alarm and alarm["raised"]:
            self.line(f"  ! {alarm['says']}")
            self.line(f"    since round {alarm['round']}; {_rate(alarm)}, up to {alarm['up_to']}")

    def _honesty(self, found: dict[str, Any] | None) -> None:
        """How far the figures can be believed: only what there is evidence of."""
        if not found or not found["prequential"]:
            return
        say, score, alarm = self.line, found["prequential"], found["alarm"]
        say("how far these figures can be believed (docs/honesty.md)")
        gain = score["log_score"] - score["baseline"]
        say(
            f"  predictions        {score['log_score']:.1f} nats for {score['answers']} answers, "
            f"{gain:+.1f} over no learning"
        )
        if not alarm["raised"]:
            say(f"  out of the model   nothing alarming ({_rate(alarm)})")
        check, compared = found["predictive_check"], found["consistency"]
        if check:
            say(f"  replicated answers as improbable as these, or more: {check['surprise_p']:.2f} (conservative)")
        if compared:
            licence = found["utility_licence"] or "no evidence"
            bound = "" if compared["exact"] else "at most "
            say(
                f"  utility licence    {licence}: {bound}{compared['to_drop']} of {compared['strict']} strict "
                f"comparisons would have to go; {compared['cyclic_triads']} of {compared['triads']} closed triads run "
                "in a circle"
            )

    def _audit(self, s: dict[str, Any]) -> None:
        audit = s["audit"]
        if audit is None:
            return
        say = self.line
        verdict = "trustworthy" if audit["trustworthy"] else "NOT trustworthy: read its diagnostics"
        checks, size = audit["diagnostics"], f"{audit['chains']} x {audit['draws']} draws"
        say(
            f"audit by {audit['engine']}, {size}, {audit['seconds']:.0f} s: {verdict} "
            f"(R-hat {checks['r_hat']:.3f}, ESS {checks['ess_bulk']:.0f}, {checks['divergences']} divergences)"
        )
        for header, key in (("weight", "{}"), ("aspiration", "aspiration[{}]")):
            names = [a.name for a in self.setup.scenario.attributes if key.format(a.name) in audit["live"]]
            if names:
                say(f"  {header:<18} {'live engine':>16} {'PyMC':>16} {'apart (sd)':>11}")
            for name in names:
                live, pymc, off = (audit[part][key.format(name)] for part in ("live", "parameters", "apart_sd"))
                say(
                    f"  {name:<18} {live['mean']:>7.3f} ± {live['sd']:.3f} {pymc['mean']:>8.3f} ± {pymc['sd']:.3f}"
                    f" {off:>+11.2f}"
                )
        say(f"  degree by PyMC     {gauge(audit['degree'])}")


def _rate(alarm: dict[str, Any]) -> str:
    return f"at most {alarm['false_alarm_rate_at_most']:.0%} of people as modelled ever see that alarm"


def gauge(degree: dict[str, float]) -> str:
    """A degree with its 90% interval, as figures and as a bar."""
    low, mean, high = (min(max(degree[k], 0.0), 1.0) for k in ("low", "mean", "high"))
    cells = ["-" if low * 20 <= i + 0.5 <= high * 20 else " " for i in range(20)]
    cells[min(int(mean * 20), 19)] = "o"
    return f"{degree['mean']:.3f} [{degree['low']:.2f}, {degree['high']:.2f}] |{''.join(cells)}|"


def brief(s: dict[str, Any]) -> str:
    """Settings in one short line."""
    edge = "+e" if s["edge"] else ""
    return f"{s['pattern']}{edge} x{s['passes']} f{s['fan']} b{s['brush']} {s['speed']} mm/s"


def interval(gap: dict[str, float] | None) -> str:
    """An estimate with its interval, or why there is none."""
    if gap is None:
        return "no evidence"
    if gap["low"] == gap["high"]:
        return f"{gap['estimate']:+.3f}"
    return f"{gap['estimate']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def when(time: dict[str, Any] | None) -> str:
    """A time to alignment in its five clocks."""
    if time is None:
        return "not measured in this session"
    clocks = (
        f"{time['attention_s']:.0f} s attention, {time['robot_s'] / 60:.0f} min robot, "
        f"{time['wall_s'] / 60:.0f} min in all, effort {time['effort']:.0f}"
    )
    if time["event"] == 1:
        return f"round {time['rounds']}  ({clocks})"
    if time["event"] == 0:
        return (
            f"not by round {time['rounds']}, the last that could tell" if time["rounds"] else "too short a run to tell"
        )
    return f"{'gave up' if time['event'] == 2 else 'the robot failed'} at round {time['rounds']}  ({clocks})"


def listen(runner: Runner, screen: Screen) -> None:
    """Ask at the terminal and post what is typed, from a thread of its own."""
    original = runner.run.tell

    def tell(what: str, body: dict[str, Any]) -> None:
        original(what, body)
        if what == "ask":
            _ask(screen, body)

    screen.listens = True
    object.__setattr__(runner.run, "tell", tell)
    threading.Thread(target=_read, args=(runner, screen), daemon=True, name="terminal").start()


def _ask(screen: Screen, shown: dict[str, Any]) -> None:
    say = screen.line
    question = shown["question"]
    say()
    if question == "choice":
        say(f"Round {shown['round']}, {shown['context']}. How shall the robot clean?")
        for i, mode in enumerate(shown["modes"], 1):
            say(f"  {i:>2}  {mode['label']}: {mode['description']}")
        if shown["proposal"]:
            say(f"   a  accept the proposal: {brief(shown['proposal']['settings'])}")
            say(f"      expected: {card(shown['proposal']['card'])}")
        say("  number or a; q to give up, stop to stop")
    elif question == "comparison":
        say("Which outcome would you rather have?")
        say(f"   1  {card(shown['a'])}")
        say(f"   2  {card(shown['b'])}")
        say("   =  about equal")
    elif question == "probe":
        v, name = shown["values"], shown["attribute"].replace("_", " ")
        say(f"What do you expect of {shown['label']}: {name} in {shown['unit']}?")
        say(f"  a number, about {v[0]:g} to {v[-1]:g}")
    elif question == "change":
        say(f"{since_words(shown['since'])}: did you change what you want, or did I misread you?")
        say("   c  I changed    m  you misread me    u  neither, or I am not sure")
    elif question == "rating":
        say("How far was this run as you would have it?")
        say("  " + ", ".join(f"{i} {words}" for i, words in enumerate(shown["grades"], 1)))
    elif question == "best_of":
        say("Which of these outcomes would you like best?")
        for i, each in enumerate(shown["cards"], 1):
            say(f"  {i:>2}  {card(each)}")
    elif question == "good_enough":
        for s in shown["standing"]:
            say(f"  {s['context']:<10} {brief(s['settings'])}: {card(s['card'])}")
        say("Is this good enough? (y/n)")
    elif question == "ready":
        say("Put the robot at its start, clear the floor, then press Enter.")
    elif question == "arm":
        say(f"The robot stands still ({shown['reason']}). Check that it may move, then type arm{_within(shown)}.")


def since_words(since: int) -> str:
    """Which rounds the question about a change is about."""
    return f"Since round {since}" if since else "In this session"


def rule_line(found: dict[str, Any]) -> str:
    """How often the rule behind the declared time is wrong."""
    rule = f"declared: P(aligned) of {1 - found['parameter']:g} or more"
    if found["false_declaration_rate"] is None:
        return f"{rule}; none of {found['people']} simulated people was declared by it"
    return (
        f"{rule}; false in {found['false_declaration_rate']:.1%} [{found['low']:.1%}, {found['high']:.1%}] of "
        f"{found['declarations']} declarations on {found['people']} simulated people ({found['engine']})"
    )


def _within(arm: dict[str, Any]) -> str:
    return "" if arm["within_s"] is None else f", within {arm['within_s']:g} s"


def card(rows: list[dict[str, Any]]) -> str:
    """An outcome card in one line."""
    return ", ".join(
        f"{r['attribute'].replace('_', ' ')} {r['value']:g} {r['unit']}".removesuffix(" count") for r in rows
    )


def _read(runner: Runner, screen: Screen) -> None:
    """What is typed, a line at a time. `stop`, `q` and `cut` work at any time; all else answers the question that is
    open when the line is read, once. Lines typed ahead, before their question was shown, are dropped and said so."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    leaving = False
    for text in sys.stdin:
        word = text.strip().lower()
        leaving |= word in ("stop", "q", "quit")
        if word == "stop":
            runner.stop("terminal")
        elif word in ("q", "quit"):
            runner.post(Quit())
        elif word == "cut":
            try:
                runner.cut_short("terminal")
            except ValueError as error:
                screen.line(f"  {error}")
        else:
            _reply(runner, screen, word)
    if not leaving and (runner.session is None or runner.session.phase != "finished"):
        # No answer and no stop: a page may lead a run whose standard input is nothing.
        run = runner.run.run
        print(
            f"calib: standard input has ended; the run waits: `calib attach {run} --lead` answers, "
            f"`calib stop {run}` ends it",
            file=sys.stderr,
            flush=True,
        )


def _reply(runner: Runner, screen: Screen, word: str) -> None:
    pending, number = runner.asked()
    if pending is None:
        if word:
            screen.line(f"  no question is open: {word[:40]!r} is not used")
        return
    if sys.stdin.isatty() and runner.attention_s() < _MIN_READING_S:
        screen.line(f"  typed before the question was shown: {word[:40]!r} is not used; answer now")
        return
    question = pending.question
    wanted = {"ready": "", "arm": "arm"}.get(question)
    value = _value(pending, word, runner.run.setup) if wanted is None else 0 if word == wanted else None
    if value is None:
        screen.line("  not understood; look at the choices above")
        return
    try:
        runner.reply(question, value, number, "terminal")
    except ValueError as error:  # somebody else was faster, or the robot was lost
        screen.line(f"  {error}: {word[:40]!r} is not used")


def _value(asked: Ask, word: str, setup: Setup) -> int | None:
    question = asked.question
    if question == "choice":
        if word in ("a", "accept") and setup.role == "advisor":
            return setup.num_modes
        if word.isdigit() and 1 <= int(word) <= setup.num_modes:
            return int(word) - 1
    elif question == "comparison":
        return 2 if word in _EQUAL else {"1": 0, "2": 1}.get(word)
    elif question == "probe":
        try:
            number = float(word.replace(",", "."))
        except ValueError:
            return None
        values = asked.shown["values"]
        return min(range(len(values)), key=lambda i: abs(values[i] - number)) if math.isfinite(number) else None
    elif question == "change":
        return {"c": 0, "changed": 0, "m": 1, "misread": 1, "u": 2, "unsure": 2}.get(word)
    elif question in ("rating", "best_of"):
        most = len(asked.shown["grades" if question == "rating" else "cards"])
        return int(word) - 1 if word.isdigit() and 1 <= int(word) <= most else None
    elif question == "good_enough":
        return {"y": 1, "yes": 1, "n": 0, "no": 0}.get(word)
    return None
