"""The program as processes: start, workers that die, the drain, a supervisor that is killed."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.processes import (
    NAMESPACE,
    PATIENCE,
    SECRET,
    Program,
    Simulated,
    alive,
    eventually,
    redis,
    simulated,
)

pytestmark = pytest.mark.integration

PROCESSES = pytest.mark.parametrize("workers", ["0", "2"], ids=["one process", "two workers"])


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for redis-cli's UNIX socket.
    made = Path(tempfile.mkdtemp(prefix="sl-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Simulated]]:
    with simulated(2) as found:
        yield found


@pytest.fixture
def node(nodes: list[Simulated]) -> Iterator[Simulated]:
    """A simulated server without faults."""
    yield nodes[0]
    nodes[0].control("faults/clear")
    nodes[0].control("requests/clear")


@pytest.fixture(autouse=True)
def redis_server() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")


def store(folder: Path) -> Path:
    """The socket of the embedded store of the program in a folder."""
    return folder / "var" / "redis" / "redis.sock"


@PROCESSES
def test_it_answers_and_ends_with_status_0_at_sigterm(folder: Path, workers: str) -> None:
    with Program(folder, WEB_CONCURRENCY=workers) as program:
        program.ready()
        children = program.children
        assert len(children) == 1 + int(workers)
        assert program.stop() == 0
        assert not any(alive(pid) for pid in children)
        assert [event for event in program.events if event["level"] in {"error", "critical"}] == []


@PROCESSES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished_and_nothing_new_is_accepted(
    folder: Path, node: Simulated, workers: str, number: signal.Signals
) -> None:
    with Program(folder, WEB_CONCURRENCY=workers) as program:
        program.ready()
        node.join_pool(store(folder), "s1")
        idle = program.open()
        idle.request("GET", "/bigbluebutton/api")
        assert idle.getresponse().read()
        node.control("faults/set", kind="create_slow", endpoint="create", seconds=0.5)
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(program.create, f"{folder.name}-{i}") for i in range(4)]
            eventually(lambda: node.asked("create") >= 4)
            program.signal(number)
            eventually(program.refuses)
            assert idle.sock is None or idle.sock.recv(1) == b""
            assert not any(answer.done() for answer in answers[-1:])
            assert all("<returncode>SUCCESS</returncode>" in answer.result() for answer in answers)
        idle.close()
        assert program.wait() == 0


@PROCESSES
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_under_load_the_end_loses_no_request(folder: Path, workers: str, connection: str) -> None:
    with Program(folder, WEB_CONCURRENCY=workers, SCALELITE_ACCESS_LOG="off", RAILS_LOG_LEVEL="info") as program:
        program.ready()
        if workers != "0":
            program.workers_up()
        port = program.port
        answered: Counter[int] = Counter()

        def ask(client: int) -> int:
            """How many requests of this client were lost before it was refused."""
            lost = 0
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            while True:
                try:
                    if link.sock is None:
                        link.connect()
                except ConnectionRefusedError:
                    return lost
                try:
                    link.request("GET", "/bigbluebutton/api", headers={"Connection": connection})
                    response = link.getresponse()
                    response.read()
                    answered[client] += 1
                    if response.will_close:
                        link.close()
                except (http.client.HTTPException, ConnectionError):
                    lost += 1
                    link.close()

        with ThreadPoolExecutor(32) as pool:
            clients = [pool.submit(ask, client) for client in range(32)]
            eventually(lambda: sum(answered.values()) >= 500)
            program.signal(signal.SIGTERM)
            lost = sum(client.result() for client in clients)
        assert program.wait() == 0
        # Whoever connects between the last look at the queue and its end is reset; that takes some luck.
        assert lost <= 1


@PROCESSES
def test_a_request_that_takes_longer_than_the_drain_is_cut(folder: Path, node: Simulated, workers: str) -> None:
    with Program(folder, WEB_CONCURRENCY=workers, SCALELITE_DRAIN_TIMEOUT="0.3", RESPONSE_TIMEOUT="60") as program:
        program.ready()
        node.join_pool(store(folder), "s1")
        node.control("faults/set", kind="hang_before_headers", endpoint="create")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(program.create, folder.name)
            eventually(lambda: node.asked("create"))
            assert program.stop() == 0
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                answer.result()
        assert program.logged("1 requests were cut off")


@PROCESSES
def test_a_second_signal_ends_everything_at_once(folder: Path, node: Simulated, workers: str) -> None:
    with Program(folder, WEB_CONCURRENCY=workers, RESPONSE_TIMEOUT="60") as program:
        program.ready()
        node.join_pool(store(folder), "s1")
        children = program.children
        node.control("faults/set", kind="hang_before_headers", endpoint="create")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(program.create, folder.name)
            eventually(lambda: node.asked("create"))
            program.signal(signal.SIGTERM)
            eventually(program.refuses)
            program.signal(signal.SIGTERM)
            assert program.wait() == 128 + signal.SIGTERM
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                answer.result()
        eventually(lambda: not any(alive(pid) for pid in children))


def test_a_killed_worker_is_replaced_and_no_meeting_is_doubled(folder: Path, nodes: list[Simulated]) -> None:
    with Program(folder, WEB_CONCURRENCY="2") as program:
        program.ready()
        for number, node in enumerate(nodes):
            node.join_pool(store(folder), f"s{number}")
            node.control("faults/set", kind="create_slow", endpoint="create", seconds=0.2)
        before = program.workers_up()
        ids = [f"{folder.name}-{i}" for i in range(12)]

        def attempt(meeting_id: str) -> str:
            try:
                return program.create(meeting_id)
            except (http.client.HTTPException, ConnectionError):
                return "broken"

        with ThreadPoolExecutor(len(ids)) as pool:
            answers = [pool.submit(attempt, meeting_id) for meeting_id in ids]
            eventually(lambda: sum(node.asked("create") for node in nodes) >= 2)
            os.kill(before[0], signal.SIGKILL)
            first = [answer.result() for answer in answers]
            # Whoever's connection broke asks again, as everybody does later on.
            again = list(pool.map(program.create, ids))
        assert set(first) == {"broken"} or any("SUCCESS" in answer for answer in first)
        assert all("<returncode>SUCCESS</returncode>" in answer for answer in again), again
        living = [{m["meetingID"] for m in node.look("state")["meetings"]} & set(ids) for node in nodes]
        assert not living[0] & living[1]
        assert living[0] | living[1] == set(ids)
        event = program.logged("is replaced")
        assert (event["process"], event["reason"]) == (before[0], "it was ended by SIGKILL")
        eventually(lambda: len(program.workers) == 2 and before[0] not in program.workers)
        for node in nodes:
            node.control("faults/clear")
            node.control("requests/clear")
        assert program.stop() == 0


def test_no_request_fails_while_a_worker_is_replaced(folder: Path) -> None:
    with Program(folder, WEB_CONCURRENCY="2") as program:
        program.ready()
        victim = program.workers_up()[0]
        # It is idle: nothing of it can break, and whatever comes from now on is the other's.
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not alive(victim))
        statuses = []
        while not any("is up" in e["message"] and e["process"] not in {victim} for e in program.events[-3:]):
            statuses.append(program.get("/bigbluebutton/api")[0])
        assert statuses == [200] * len(statuses)
        assert program.stop() == 0


def test_a_worker_that_is_told_to_end_drains_and_is_replaced(folder: Path, node: Simulated) -> None:
    with Program(folder, WEB_CONCURRENCY="2") as program:
        program.ready()
        node.join_pool(store(folder), "s1")
        node.control("faults/set", kind="create_slow", endpoint="create", seconds=0.5)
        before = program.workers_up()
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(program.create, f"{folder.name}-{i}") for i in range(4)]
            eventually(lambda: node.asked("create") >= 4)
            for pid in before:
                os.kill(pid, signal.SIGTERM)
            assert all("<returncode>SUCCESS</returncode>" in answer.result() for answer in answers)
        assert program.logged("is replaced")["reason"] == "it ended with status 0"
        eventually(lambda: len(program.workers) == 2 and not set(before) & set(program.workers))


@PROCESSES
def test_a_killed_supervisor_leaves_nothing_running_and_can_be_started_again(folder: Path, workers: str) -> None:
    with Program(folder, WEB_CONCURRENCY=workers) as program:
        program.ready()
        eventually(lambda: redis(store(folder), "SET", "kept", "yes") == "OK", ConnectionError)
        # Redis writes its file once a second.
        eventually(lambda: "kept" in "".join(p.read_text("latin-1") for p in folder.glob("var/redis/*/*.aof")))
        children = program.children
        port = program.port
        program.process.kill()
        program.wait()
        eventually(lambda: not any(alive(pid) for pid in children))
        with Program(folder, WEB_CONCURRENCY=workers, BIND=f"tcp://127.0.0.1:{port}") as second:
            second.ready()
            assert eventually(lambda: redis(store(folder), "GET", "kept"), ConnectionError) == "yes"
            assert second.stop() == 0


def test_no_secret_is_in_a_command_line(folder: Path) -> None:
    with Program(folder, WEB_CONCURRENCY="2") as program:
        program.ready()
        pids = [program.process.pid, *program.children]
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
        assert len(lines) == 4
        assert not [line for line in lines if SECRET in line]


@PROCESSES
def test_it_listens_wherever_bind_says(folder: Path, workers: str) -> None:
    path = folder / "web.sock"
    bind = f"tcp://127.0.0.1:0,tcp://[::1]:0,unix://{path}?umask=0077"
    with Program(folder, WEB_CONCURRENCY=workers, BIND=bind) as program:
        program.ready()
        addresses: list[tuple[int, object]] = [
            (socket.AF_INET, ("127.0.0.1", program.port)),
            (socket.AF_INET6, ("::1", int(program.urls[1].rpartition(":")[2]))),
            (socket.AF_UNIX, str(path)),
        ]
        for family, address in addresses:
            with socket.socket(family) as link:
                link.connect(address)
                link.sendall(b"GET /bigbluebutton/api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert link.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        assert path.stat().st_mode & 0o777 == 0o700
        program.process.kill()
        program.wait()
        assert path.exists()
        # What a killed program left behind does not hinder the next one, which cleans up.
        with Program(folder, WEB_CONCURRENCY=workers, BIND=bind) as second:
            second.ready()
            if workers != "0":
                os.kill(second.workers_up()[0], signal.SIGTERM)
                second.logged("is replaced")
            assert path.exists()
            assert second.stop() == 0
            assert not path.exists()


def test_a_store_in_memory_allows_one_process_only_and_says_so(folder: Path) -> None:
    empty = folder / "bin"
    empty.mkdir()
    with Program(folder, WEB_CONCURRENCY="2", PATH=str(empty)) as program:
        program.ready()
        assert program.workers == []
        assert program.logged("WEB_CONCURRENCY=2 IS IGNORED")["level"] == "critical"
        assert program.stop() == 0


def test_a_port_in_use_is_one_line_and_status_1(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for twistd in (["-n"], []):
            with Program(folder, twistd=twistd, BIND="", PORT=str(port)) as program:
                taken.listen()
                assert program.wait() == 1
                expected = f"cannot listen on tcp://0.0.0.0:{port} (set by BIND or PORT): address already in use"
                assert program.text.splitlines() == [f"scalelite: {expected}"]


@pytest.mark.parametrize("twistd", [["-n"], []], ids=["in front", "daemon"])
def test_unusable_settings_are_all_named_and_end_with_status_2(folder: Path, twistd: list[str]) -> None:
    with Program(folder, twistd=twistd, PORT="many", BIND="", SCALELITE_ENV="production") as program:
        assert program.wait() == 2
        assert "Traceback" not in program.text
        assert "PORT='many'" in program.text
        assert "SECRET_KEY_BASE is unset" in program.text


def test_an_unusable_data_folder_is_one_line_and_status_1(folder: Path) -> None:
    (folder / "var").write_text("in the way")
    with Program(folder) as program:
        assert program.wait() == 1
        assert "Traceback" not in program.text
        assert program.text.splitlines()[-1].startswith(
            f"scalelite: SCALELITE_DATA_DIR={folder / 'var'} cannot be used: "
        )


def test_an_unusable_folder_of_the_embedded_store_is_one_line_and_status_1(folder: Path) -> None:
    (folder / "var").mkdir()
    (folder / "var" / "redis").write_text("in the way")
    with Program(folder) as program:
        assert program.wait() == 1
        assert "Traceback" not in program.text
        assert program.text.splitlines()[-1].startswith("scalelite: the embedded Redis cannot use ")


@pytest.mark.parametrize("settings", [{}, {"SCALELITE_ACCESS_LOG": "log/access.log"}], ids=["events", "access"])
def test_a_log_that_cannot_be_written_is_one_line_and_status_1(folder: Path, settings: dict[str, str]) -> None:
    (folder / "log").write_text("in the way")
    with Program(folder, SCALELITE_ENV="test" if not settings else "development", **settings) as program:
        assert program.wait() == 1
        assert len(program.text.splitlines()) == 1
        assert program.text.startswith("scalelite: [Errno 17] File exists: ")


def test_as_a_daemon_it_logs_into_files_and_removes_its_pidfile(folder: Path) -> None:
    with Program(folder, twistd=[], BIND="tcp://127.0.0.1:0", WEB_CONCURRENCY="2") as program:
        assert program.wait() == 0
        program.output = folder / "log" / "development.log"
        pid = int((folder / "twistd.pid").read_text())
        try:
            program.ready()
            assert program.logged("worker 2 .* is up")["pid"] == pid
        finally:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not alive(pid))
        assert not (folder / "twistd.pid").exists()
        assert not (folder / "twistd.log").exists()
        assert '"path":"/bigbluebutton/api"' in (folder / "log" / "access.log").read_text()


def test_production_logs_into_its_file_unless_told_otherwise(folder: Path) -> None:
    production = {"SCALELITE_ENV": "production", "SECRET_KEY_BASE": "x" * 32, "REDIS_URL": "redis://127.0.0.1:1"}
    with Program(folder, **production) as program:
        printed, program.output = program.output, folder / "log" / "production.log"
        program.logged("cannot reach Redis")
        program.logged("URL_HOST is unset")
        assert program.stop() == 0
        warnings = printed.read_text().splitlines()
        assert [line.partition(" is unset")[0] for line in warnings] == [
            "scalelite: WARNING: URL_HOST",
            "scalelite: WARNING: SCALELITE_API_SECRET",
            "scalelite: WARNING: DATABASE_URL",
        ]
    with Program(folder, RAILS_LOG_TO_STDOUT="true", **production) as program:
        program.logged("cannot reach Redis")
        assert program.stop() == 0


@PROCESSES
def test_twistds_logfile_is_respected(folder: Path, workers: str) -> None:
    twistd = ["-n", "--logfile", "own.log"]
    with Program(folder, twistd=twistd, WEB_CONCURRENCY=workers, SCALELITE_ACCESS_LOG="off") as program:
        log = folder / "own.log"
        assert eventually(lambda: "polled 0 servers" in log.read_text(), OSError)
        if workers != "0":
            eventually(lambda: log.read_text().count("is up") == 2)
            os.kill(program.workers[0], signal.SIGTERM)
            eventually(lambda: "stopping: received SIGTERM" in log.read_text())
        assert program.stop() == 0
        assert program.text == ""
    written = log.read_text().splitlines()
    assert [line for line in written if not re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d{4} \[", line)] == []


def test_the_poller_runs_in_the_supervisor_alone(folder: Path) -> None:
    with Program(folder, WEB_CONCURRENCY="2", POLL_INTERVAL="0.2") as program:
        program.ready()
        program.logged("worker 2 .* is up")
        program.logged("worker 1 .* is up")
        program.logged("polled 0 servers")
        holder = redis(store(folder), "KEYS", f"{NAMESPACE}:*lease*")
        assert holder
        assert {e["pid"] for e in program.events if e["message"].startswith("polled")} == {program.process.pid}
