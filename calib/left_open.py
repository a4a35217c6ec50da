"""What a killed runner has left open: the next session on its robot closes it.

A run is closed where its robot has an address: whoever starts there moves the robot, and the old run cannot go on. The
world of a simulator, or of an emulator of one's own, waits where it was, and so does the run, for `calib resume`.
"""

from calib.errors import JournalError, UserError
from calib.events import Record, Stop, event_to_json
from calib.journal import EntryType, Journal
from calib.registry import forget, left_behind
from calib.replay import events_of, fold, missing_documents, run_entries, setup_of
from calib.session import step

KILLED = "crash: its process was killed"


def is_elsewhere(device_spec: str) -> bool:
    """Whether a SPEC names a robot that others may move too."""
    address = device_spec.partition(":")[2]
    return address != "" and address.rpartition("/")[2] != "emulator"


def close_left_open(journal: Journal, device_spec: str) -> list[str]:
    """Close the runs of this journal that killed runners left open on this robot. A line on each."""
    said = []
    for entry in left_behind():
        if entry.device != device_spec:
            continue
        if is_elsewhere(device_spec):
            if not any(row.run == entry.run for row in journal.runs()):
                continue  # of another journal
            try:
                said += [f"run {entry.run}, whose process was killed, is closed"] if _close(journal, entry.run) else []
            except (UserError, JournalError) as error:
                said.append(f"run {entry.run}, whose process was killed, stays open: {error}")
        forget(entry)
    return said


def _close(journal: Journal, run: str) -> bool:
    """Write what the kill left unwritten, then a stop. False where the run had ended, or holds nothing any more."""
    try:
        entries = run_entries(journal, run)
    except UserError:  # erased, or killed before its start
        return False
    start = entries[0].body
    if start is None or any(e.type == "stop" for e in entries):
        return False
    journal.go_on_after(entries)
    setup = setup_of(start)
    folded = fold(setup, start, events_of(entries))
    written: list[tuple[EntryType, dict[str, object]]] = [(r.type, r.body) for r in missing_documents(entries, folded)]
    if folded.session.phase != "finished":
        stop = Stop(KILLED)
        _, effects = step(setup, folded.session, stop)
        written.append(("event", event_to_json(stop)))
        written += [(e.type, e.body) for e in effects if isinstance(e, Record)]
    journal.append_many(run, written)
    return True
