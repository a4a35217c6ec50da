"""`calib simulate --scheduler`: a Dask cluster of real processes on loopback, killed, stopped, wrong or not there."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from calib.errors import UserError
from experiments import cluster
from experiments.parts import Plan
from experiments.population import simulate_population
from sessions import Lab
from test_population import plan_of, simulated

WORDS = ("simulate", "arena", "--people", "40", "--role", "tool,advisor", "--policy", "random,information_gain")
WORDS += ("--rounds", "5", "--particles", "64", "--seed", "3")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The data's hash of one process."""
    return str(simulated(plan_of(), tmp_path_factory.mktemp("reference"))["data_sha256"])


class Cluster:
    """A scheduler and workers of one thread each, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = f"tcp://127.0.0.1:{free_port()}"
        port = self.address.rsplit(":", 1)[1]
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        until = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", int(port))) and time.monotonic() < until:
            time.sleep(0.1)

    def _start(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--no-dashboard"],
            cwd=self.folder,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / f"{words[0]}-{len(self.processes)}.log").open("wb"),
        )
        self.processes.append(process)
        return process

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """One more worker, without a nanny that would start it again."""
        return self._start(
            *("worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny"),
            *("--local-directory", str(self.folder)),
            **environment,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster_of(folder: Path, workers: int) -> Iterator[Cluster]:
    started = Cluster(folder)
    try:
        for _ in range(workers):
            started.worker()
        yield started
    finally:
        for process in started.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that nobody kills."""
    with cluster_of(tmp_path_factory.mktemp("cluster"), 2) as started:
        yield started


def on(address: str, plan: Plan, folder: Path, done: Any = lambda people: None) -> dict[str, Any]:
    return simulate_population(plan, folder, 0, done, scheduler=address)


def test_a_cluster_gives_the_data_of_one_process(reference: str, two: Cluster, tmp_path: Path) -> None:
    """From the command line, into a folder that the workers never see."""
    out = tmp_path / "out"
    found = Lab(tmp_path).json(*WORDS, "--chunk", "7", "--scheduler", two.address, "--out", str(out))
    assert found["data_sha256"] == reference
    assert found["rows"] == 160 and found["parts"] == 24
    assert not list(out.glob("**/*.tmp"))


def test_a_worker_killed_half_way_costs_nothing(reference: str, tmp_path: Path) -> None:
    with cluster_of(tmp_path, 2) as started:
        killed: list[int] = []

        def kill_one(people: int) -> None:
            if not killed:
                killed.append(started.processes[-1].pid)
                os.kill(killed[0], signal.SIGKILL)

        found = on(started.address, plan_of(chunk=4), tmp_path / "out", kill_one)
        assert killed and started.processes[-1].wait() == -signal.SIGKILL
    assert found["data_sha256"] == reference


def test_a_scheduler_that_dies_loses_nothing(
    reference: str, two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, the parts stay, and the rest is computed elsewhere."""
    out = tmp_path / "out"
    with cluster_of(tmp_path, 1) as started:
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"the scheduler went away.*run again to go on"):
            on(started.address, plan_of(), out, lambda people: started.scheduler.kill())
        assert time.monotonic() - begun < 60
    kept = {p: p.stat().st_mtime_ns for p in out.glob("parts/*.parquet")}
    assert 0 < len(kept) < len(plan_of().parts)
    assert on(two.address, plan_of(), out)["data_sha256"] == reference
    assert all(p.stat().st_mtime_ns == then for p, then in kept.items())


def test_when_all_workers_have_gone_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster_of(tmp_path, 0) as started:
        with monkeypatch.context() as soon, pytest.raises(UserError, match="has no worker: start some with `dask wor"):
            soon.setattr(cluster, "WORKERS_S", 1.0)
            on(started.address, plan_of(), tmp_path / "out")
        worker = started.worker()

        def leave(people: int) -> None:
            worker.kill()
            monkeypatch.setattr(cluster, "WORKERS_S", 1.0)

        with pytest.raises(UserError, match=r"all workers have gone.*run again"):
            on(started.address, plan_of(), tmp_path / "out", leave)


def test_a_worker_of_other_code_is_refused(two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(cluster, "code_sha256", lambda: "0" * 64)
        with pytest.raises(UserError, match=r"worker tcp://127.* has another code"):
            on(two.address, plan_of(), tmp_path / "a")
    with monkeypatch.context() as other:
        other.setattr(cluster, "platform_fingerprint", lambda: "Elsewhere")
        with pytest.raises(UserError, match=r"worker tcp://127.* has another platform"):
            on(two.address, plan_of(), tmp_path / "b")
    with pytest.raises(UserError, match="worker has another code"):  # one that joins later finds out by itself
        cluster.work("{}", (0, 0, 1), ("0" * 64, ""))
    assert not list(tmp_path.glob("*/parts/*"))


def test_no_scheduler_or_something_else_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    for address in (f"tcp://127.0.0.1:{free_port()}", "carrier-pigeon://roof", "127.0.0.1", "tcp://127.0.0.1:99999999"):
        with pytest.raises(UserError, match=r"--scheduler .*no Dask scheduler answers there"):
            on(address, plan_of(), tmp_path / "out")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=say_hello, args=(server,), daemon=True).start()
        with pytest.raises(UserError, match="no Dask scheduler answers there"):
            on(f"tcp://127.0.0.1:{server.getsockname()[1]}", plan_of(), tmp_path / "out")
    done = Lab(tmp_path).calib(*WORDS, "--scheduler", "tcp://127.0.0.1:1", "--out", str(tmp_path / "o"), check=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1
    done = Lab(tmp_path).calib(*WORDS, "--scheduler", "tcp://127.0.0.1:1", "--jobs", "2", check=2)
    assert "give one of them" in done.stderr


def say_hello(server: socket.socket) -> None:
    """A web server, to whoever calls."""
    while True:
        try:
            other, _ = server.accept()
            other.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            return


def test_without_the_extra_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "experiments.cluster")
    with pytest.raises(UserError, match=r"needs the extra `cluster`"):
        on("tcp://127.0.0.1:1", plan_of(), tmp_path / "out")


def test_an_interrupt_ends_it_and_the_next_run_goes_on(reference: str, two: Cluster, tmp_path: Path) -> None:
    for number in range(5):
        out = tmp_path / f"out{number}"
        words = (*WORDS, "--chunk", "2", "--scheduler", two.address, "--out", str(out))
        with Lab(tmp_path).going(*words, "--json") as process:
            until = time.monotonic() + 120
            while len(list(out.glob("parts/*.parquet"))) < 3 and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            if process.wait(timeout=30) == 0:  # a busy machine: all was done before this process had its turn
                assert (out / "manifest.json").exists()
                continue
            assert process.stderr is not None and process.stderr.read() == "interrupted\n"
            break
    assert process.returncode == 130
    assert not (out / "manifest.json").exists()
    assert Lab(tmp_path).json(*words)["data_sha256"] == reference


def test_the_workers_are_one_thread(two: Cluster, tmp_path: Path) -> None:
    """A task sets the compiled loops to one; Dask's nanny does it for BLAS."""
    import distributed

    on(two.address, plan_of(people=4, roles=["tool"], policies=["random"]), tmp_path)
    with distributed.Client(two.address, set_as_default=False) as client:
        assert set(client.run(os.environ.get, "NUMBA_NUM_THREADS").values()) <= {"1", None}
        assert "1" in client.run(os.environ.get, "NUMBA_NUM_THREADS").values()
        assert set(client.nthreads().values()) == {1}
