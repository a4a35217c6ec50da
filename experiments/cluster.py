"""Parts of a population computed by the workers of a Dask scheduler; their bytes travel back to who asked.

So no worker needs the folder, and a part that two workers computed is written once. A task is the text of the plan and
three numbers. Dask itself pickles the task and its answer: whoever runs the scheduler runs code in every worker
and here, so an address is given for one that is trusted.
"""

import asyncio
import json
import logging
import os
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

import distributed
from distributed.scheduler import KilledWorker

from calib.errors import UserError
from calib.provenance import code_sha256, platform_fingerprint
from experiments.ahead import ensure
from experiments.parts import Part, Plan, part_bytes

CONNECT_S = 10.0  # until a scheduler must answer
WORKERS_S = 30.0  # that no worker may be there
_LOOK_S = 1.0  # how often the workers are counted
_AHEAD = 4  # tasks a thread that the scheduler holds; a part in a worker's memory is some tens of kilobytes
_RESTARTS = 3  # of a part whose workers died


def facts() -> tuple[str, str]:
    """What must be the same here and on a worker for equal bytes: the code and the platform."""
    return code_sha256(), platform_fingerprint()


def work(plan: str, part: Part, expected: tuple[str, str]) -> bytes:
    """One part, on a worker: the plan as JSON. UserError where the worker is of other code or another platform."""
    os.environ["NUMBA_NUM_THREADS"] = "1"  # read at every call; parallel is the number of workers
    _compare("worker", facts(), expected)
    ensure()
    values = json.loads(plan)
    conditions = tuple((role, policy, person) for role, policy, person in values.pop("conditions"))
    return part_bytes(Plan(**values, conditions=conditions), part)


def on_cluster(plan: Plan, parts: list[Part], address: str) -> Iterator[tuple[Part, bytes]]:
    """Parts as the workers get them done. UserError for a scheduler or workers that are not there, die or differ."""
    text = json.dumps(asdict(plan))
    with _quiet(), _connected(address) as client:
        _check_workers(client, address)
        waiting, deaths = deque(parts), Counter[Part]()
        going: dict[distributed.Future, Part] = {}
        ready, seen = threading.Event(), time.monotonic()
        while waiting or going:
            if client.status != "running":
                raise _gone(address, "the connection was lost")
            threads = sum(client.nthreads().values())
            if threads:
                seen = time.monotonic()
            elif time.monotonic() > seen + WORKERS_S:
                raise UserError(f"--scheduler {address}: all workers have gone: start some and run again to go on")
            while waiting and len(going) < max(_AHEAD * threads, 1):
                part = waiting.popleft()
                future = client.submit(work, text, part, facts(), pure=False, key=f"calib-{time.monotonic_ns()}-{part}")
                future.add_done_callback(lambda future: ready.set())
                going[future] = part
            ready.wait(_LOOK_S)
            ready.clear()
            for future in [f for f in going if f.done()]:
                part = going.pop(future)
                try:
                    content = future.result()
                except KilledWorker:
                    deaths[part] += 1
                    if deaths[part] > _RESTARTS:
                        raise UserError(
                            f"--scheduler {address}: workers died over a part again and again; run again to go on"
                        ) from None
                    waiting.append(part)
                    continue
                except (distributed.CancelledError, UserError):
                    raise
                except Exception as error:
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                    raise UserError(
                        f"--scheduler {address}: a part failed on its worker ({reason}): "
                        "--jobs 1 instead shows whether it does so here, and where"
                    ) from error
                yield part, content


@contextmanager
def _connected(address: str) -> Iterator[distributed.Client]:
    try:
        # Asked first, because a Client that finds nobody goes on trying in the background.
        found = asyncio.run(asyncio.wait_for(_identity(address), CONNECT_S))
        if found != "Scheduler":
            raise ValueError(f"a Dask {found} does")
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except Exception as error:  # a web server's bytes, read as Dask's, end in whatever they happen to mean
        silent = f"nothing in {CONNECT_S:g} s" if isinstance(error, TimeoutError) else type(error).__name__
        reason = str(error).splitlines()[0] if str(error) else silent
        raise UserError(
            f"--scheduler {address}: no Dask scheduler answers there ({reason}): start one with `dask scheduler`"
        ) from None
    try:
        yield client
    except (distributed.CancelledError, OSError, RuntimeError) as error:
        raise _gone(address, type(error).__name__) from None
    finally:
        with suppress(Exception):
            client.close(timeout=2)


async def _identity(address: str) -> str:
    async with distributed.rpc(address) as there:
        return str((await there.identity())["type"])


def _gone(address: str, reason: str) -> UserError:
    # A scheduler that comes back knows nothing of our tasks.
    return UserError(f"--scheduler {address}: the scheduler went away ({reason}): start it and run again to go on")


def _check_workers(client: distributed.Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError:
        raise UserError(
            f"--scheduler {address}: has no worker: start some with `dask worker {address} --nthreads 1`"
        ) from None
    for worker, found in client.run(facts, on_error="return").items():
        if isinstance(found, Exception):
            raise UserError(
                f"--scheduler {address}: worker {worker} does not know this code ({type(found).__name__}): "
                "start the workers from an installation of the same version"
            )
        _compare(f"worker {worker}", tuple(found), facts())


def _compare(worker: str, found: tuple[str, ...], expected: tuple[str, str]) -> None:
    for name, theirs, ours in zip(("code", "platform"), found, expected, strict=True):
        if theirs != ours:
            raise UserError(
                f"--scheduler: {worker} has another {name} ({theirs[:60]}, here {ours[:60]}), and so other numbers: "
                f"start the workers from the same version on the same platform"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """One line tells what went wrong, not Dask's log."""
    names = [n for n in logging.root.manager.loggerDict if n.startswith(("distributed", "tornado", "asyncio"))]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
