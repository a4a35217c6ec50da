"""The peer's end of the pipe: JSON lines in and out, run by the peer's own Python (docs/peers.md).

    in  {"setup": FILE.npz, "kind": "pairs" | "menus", "seed": SEED, ...}  out  {"ready": true, "version", ...}
    in  {"begin": PERSON}                      out  {"question": Q, "seconds": S, "processor_s": S}
    in  {"answer": A}                          out  the same and one of "standing", "slopes", "values": [...]
    in  {"end": true}

Seconds are those of the update and the choice of the next question, on the wall and of the processor. Nothing of the
project is imported here: a peer's environment does not have it.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def respond(learner: Any, message: dict[str, Any]) -> dict[str, Any]:
    """What a learner replies; it has begin(person), choose() -> question, learn(answer) and told() -> what it found."""
    if "begin" in message:
        learner.begin(message["begin"])
    begun, used = time.perf_counter(), time.process_time()
    if "answer" in message:
        learner.learn(message["answer"])
    question = int(learner.choose())
    reply = {"question": question, "seconds": time.perf_counter() - begun, "processor_s": time.process_time() - used}
    return reply | (learner.told() if "answer" in message else {})


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Reply until the end; make(setup) -> a learner. What it prints goes to standard error, for output is the pipe."""
    pipe, sys.stdout = sys.stdout, sys.stderr
    learner: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        if "end" in message:
            return
        if "setup" in message:
            learner = make(message)
            reply = {"ready": True} | learner.about
        else:
            reply = respond(learner, message)
        print(json.dumps(reply), file=pipe, flush=True)
