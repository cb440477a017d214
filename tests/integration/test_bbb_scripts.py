"""The scripts for BigBlueButton servers, run by a real Ruby: by rsync and by HTTPS, up to the imported recording."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.bbb_server import SECRET, URL, BBBServer
from tests.integration.cutting_proxy import CuttingProxy
from tests.integration.processes import NAMESPACE, Program, eventually, redis
from tests.integration.requirements import require

pytestmark = pytest.mark.integration

R = "0f3c9d-1609459200123"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def parts() -> None:
    require("ruby", "rsync", "tar", "redis-server")


@pytest.fixture
def bbb(tmp_path: Path) -> BBBServer:
    return BBBServer(tmp_path / "bbb")


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path, which is too long for redis-cli's UNIX socket.
    made = Path(tempfile.mkdtemp(prefix="sl-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@contextmanager
def balancer(folder: Path, **settings: str) -> Iterator[Program]:
    """A running balancer that takes uploads, imports, and has the server in its pool."""
    given = {"SCALELITE_UPLOAD": "true", "RECORDING_IMPORT_POLL_INTERVAL": "1", **settings}
    with Program(folder, **given) as program:
        program.ready()
        socket = folder / "var" / "redis" / "redis.sock"
        eventually(lambda: redis(socket, "PING") == "PONG", ConnectionError)
        redis(socket, "HSET", f"{NAMESPACE}:server:s7", "url", f"{URL}/bigbluebutton/api", "secret", SECRET)
        redis(socket, "SADD", f"{NAMESPACE}:servers", "s7")
        yield program


def films(folder: Path) -> dict[str, bytes]:
    """The films of imported recordings, by format."""
    root = folder / "var" / "bigbluebutton" / "published"
    return {path.parts[-4]: path.read_bytes() for path in root.glob(f"*/{R}/video/webcams.webm")}


def is_listed(program: Program) -> bool:
    return f"<recordID>{R}</recordID>" in program.get(program.signed("getRecordings", recordID=R))[1]


def spool(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "var" / "bigbluebutton" / "spool").glob("*.tar"))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_recording_is_uploaded_in_pieces_through_cut_connections_and_imported(
    folder: Path, bbb: BBBServer, workers: str
) -> None:
    film = os.urandom(6 * MIB)
    bbb.publish(R, "presentation", "video", film=film)
    with (
        balancer(folder, WEB_CONCURRENCY=workers) as program,
        CuttingProxy(program.port, [3 * MIB // 2, 200, 5 * MIB, 700]) as proxy,
    ):
        bbb.configure(upload_url=f"http://127.0.0.1:{proxy.port}", upload_piece=1)
        done = bbb.send("-m", R, "-f", "video")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert (proxy.cut, proxy.connections) == (4, 5)
        assert done.stdout.count("going on in") == 4
        assert done.stdout.endswith(f"{R}: sent presentation, video\n")
        eventually(lambda: is_listed(program))
        assert films(folder) == {"presentation": film, "video": film}
        eventually(lambda: spool(folder) == [])
        assert program.logged("s7 has sent")["size"] > 12 * MIB
    assert (bbb.sent, bbb.left) == ([f"{R}-sender.done"], [])
    assert (bbb.status / f"{R}-sender.done").read_text() == f"Published {R}\n"


def test_balancer_that_is_restarted_in_the_middle_gets_the_rest(folder: Path, bbb: BBBServer) -> None:
    film = os.urandom(4 * MIB)
    bbb.publish(R, film=film)
    with balancer(folder) as program, CuttingProxy(program.port, [2 * MIB]) as proxy:
        bbb.configure(upload_url=f"http://127.0.0.1:{proxy.port}", upload_piece=1, upload_tries=0.5)
        done = bbb.send("-m", R)
        assert (done.returncode, bbb.sent, bbb.left) == (1, [], [])
        assert "the upload failed" in done.stderr
    parts = list((folder / "var" / "bigbluebutton" / "spool" / ".uploads").glob("*.part"))
    assert [0 < part.stat().st_size < 4 * MIB for part in parts] == [True]
    with balancer(folder) as program, CuttingProxy(program.port, []) as proxy:
        bbb.configure(upload_url=f"http://127.0.0.1:{proxy.port}", upload_piece=1)
        assert bbb.send("-m", R).returncode == 0
        eventually(lambda: is_listed(program))
        assert films(folder) == {"presentation": film}


def test_recording_is_sent_by_rsync_and_imported(folder: Path, bbb: BBBServer) -> None:
    film = os.urandom(MIB)
    bbb.publish(R, film=film)
    with balancer(folder) as program:
        bbb.configure(spool_dir=str(folder / "var" / "bigbluebutton" / "spool"), extra_rsync_opts=["--chmod=F664"])
        done = bbb.send("-m", R)
        assert done.returncode == 0, done
        eventually(lambda: is_listed(program))
        assert films(folder) == {"presentation": film}
    assert (bbb.sent, bbb.left) == ([f"{R}-sender.done"], [])


def test_tar_holds_all_formats_that_are_published_by_then(bbb: BBBServer) -> None:
    spool_dir = bbb.root / "spool"
    spool_dir.mkdir()
    bbb.publish(R, "video", "presentation")
    bbb.publish("another-1", "presentation")
    bbb.configure(spool_dir=str(spool_dir))
    assert bbb.send("-m", R, "-f", "video").returncode == 0
    (path,) = spool_dir.iterdir()
    assert path.name == f"{R}.tar"
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert names[0] == f"presentation/{R}"
    assert {"/".join(name.split("/")[:2]) for name in names} == {f"presentation/{R}", f"video/{R}"}


def test_recording_without_published_formats_is_no_fault(bbb: BBBServer) -> None:
    bbb.configure(spool_dir=str(bbb.root / "spool"))
    done = bbb.send("-m", R)
    assert (done.returncode, done.stdout) == (0, f"{R}: no format is published, there is nothing to send\n")
    assert (bbb.sent, bbb.left) == ([], [])


def test_failing_rsync_is_told_and_leaves_nothing_behind(bbb: BBBServer) -> None:
    bbb.publish(R)
    bbb.configure(spool_dir=str(bbb.root / "missing" / "spool"), delete_recording=True)
    log = bbb.command("bbb-record", f"touch {bbb.root}/bbb-record.log")
    done = bbb.send("-m", R)
    assert (done.returncode, bbb.sent, bbb.left, log.exists()) == (1, [], [], False)
    assert f"{R}: rsync failed" in done.stderr


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 4)])
def test_recording_is_deleted_after_it_was_sent_where_that_is_wanted(
    bbb: BBBServer, status: int, expected: int
) -> None:
    (bbb.root / "spool").mkdir()
    bbb.publish(R)
    bbb.configure(spool_dir=str(bbb.root / "spool"), delete_recording=True)
    log = bbb.command("bbb-record", f'echo "$@" > {bbb.root}/bbb-record.log; exit {status}')
    done = bbb.send("-m", R)
    assert (done.returncode, log.read_text()) == (expected, f"--delete {R}\n")
    assert bbb.sent == [f"{R}-sender.done"]


@pytest.mark.parametrize(
    "arguments", [[], ["-f", "video"], ["-m"], ["-m", ""], ["-m", "../x"], ["-m", "*"], ["-m", R, "--what"]]
)
def test_call_that_names_no_recording_is_refused(bbb: BBBServer, arguments: list[str]) -> None:
    bbb.configure(spool_dir=str(bbb.root))
    bbb.publish(R)
    done = bbb.send(*arguments)
    assert (done.returncode, bbb.left) == (2, [])
    assert done.stderr


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"work_dir": None, "spool_dir": "/x"}, "work_dir is missing"),
        ({}, "spool_dir or upload_url is missing"),
        ({"upload_url": "http://scalelite.example.com"}, "upload_url must begin with https://"),
        ({"upload_url": "nonsense"}, "upload_url must begin with https://"),
        ({"upload_url": "https://x y"}, "upload_url is no URL"),
        ({"upload_url": "https://x", "upload_piece": 0}, "upload_piece must be a number above 0"),
        ({"upload_url": "https://x", "upload_secret_file": "/missing"}, "secret of this server cannot be read"),
        ({"upload_url": "https://x", "bbb_web_properties": "/missing"}, "secret of this server cannot be found"),
    ],
)
def test_settings_that_cannot_be_used_are_told(bbb: BBBServer, settings: dict[str, Any], problem: str) -> None:
    bbb.publish(R)
    bbb.configure(**settings)
    done = bbb.send("-m", R)
    assert (done.returncode, problem in done.stderr) == (2, True), done


def test_missing_settings_file_is_told(bbb: BBBServer) -> None:
    done = bbb.send("-m", R)
    assert done.returncode == 2
    assert "scalelite.yml cannot be read" in done.stderr


def test_server_that_is_not_of_the_pool_is_refused_at_once(folder: Path, bbb: BBBServer) -> None:
    bbb.publish(R)
    (bbb.root / "secret").write_text("guessed\n")
    with balancer(folder) as program:
        url = f"http://127.0.0.1:{program.port}"
        for wrong in ({"upload_server": "s8"}, {"upload_secret_file": str(bbb.root / "secret")}):
            bbb.configure(upload_url=url, **wrong)
            done = bbb.send("-m", R)
            assert done.returncode == 3
            assert "the token is not one of a server of the pool" in done.stderr
            assert SECRET not in done.stdout + done.stderr
        assert spool(folder) == []


def test_balancer_that_takes_no_uploads_is_told(folder: Path, bbb: BBBServer) -> None:
    bbb.publish(R)
    with balancer(folder, SCALELITE_UPLOAD="false") as program:
        bbb.configure(upload_url=f"http://127.0.0.1:{program.port}")
        done = bbb.send("-m", R)
    assert (done.returncode, "is SCALELITE_UPLOAD=true set there?" in done.stderr) == (3, True)


class _Moody(BaseHTTPRequestHandler):
    """Answers POST as `answers` say, one after another."""

    answers: list[tuple[int, dict[str, str], bytes]]

    def do_POST(self) -> None:
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def moody(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[str]:
    """A server that answers so; its URL."""
    handler = type("Handler", (_Moody,), {"answers": list(answers)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


TUS = {"Tus-Resumable": "1.0.0"}


@pytest.mark.parametrize(
    ("answers", "status", "told"),
    [
        ([(413, {}, b"<html>")], 3, "client_max_body_size"),
        ([(302, {"Location": "https://elsewhere"}, b"")], 3, "answers 302"),
        ([(404, {}, b"")], 3, "answers 404"),
        ([(400, TUS, json.dumps({"error": "some reason"}).encode())], 3, "answers 400: some reason"),
        ([(503, {**TUS, "Retry-After": "1"}, b"{}")], 1, "the upload failed"),
        ([(201, TUS, b"")], 1, "does not tell"),
    ],
)
def test_answers_of_others_end_or_are_met_with_patience(
    bbb: BBBServer, answers: list[tuple[int, dict[str, str], bytes]], status: int, told: str
) -> None:
    bbb.publish(R)
    if answers[0][0] == 201:
        answers = [(201, {**TUS, "Location": "/scalelite/uploads/x"}, b"")]
    with moody(*answers) as url:
        bbb.configure(upload_url=url, upload_tries=0.5)
        done = bbb.send("-m", R)
    assert (done.returncode, told in done.stderr, bbb.sent, bbb.left) == (status, True, [], []), done


def test_batch_sends_what_was_not_sent_yet_and_goes_on_after_failures(bbb: BBBServer) -> None:
    spool_dir = bbb.root / "spool"
    spool_dir.mkdir()
    for number in range(3):
        bbb.publish(f"rec-{number}", "presentation", "video")
    (bbb.status / "bad.id-presentation.done").touch()
    bbb.configure(spool_dir=str(spool_dir))
    bbb.command("id", "echo 1000")
    (bbb.status / "rec-1-sender.done").touch()
    done = bbb.batch()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "2 sent, 1 failed")
    assert sorted(path.name for path in spool_dir.iterdir()) == ["rec-0.tar", "rec-2.tar"]
    (bbb.status / "bad.id-presentation.done").unlink()
    done = bbb.batch()
    assert (done.returncode, done.stdout) == (0, "0 sent, 0 failed\n")
    done = bbb.batch("--all")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "3 sent, 0 failed")
    assert bbb.batch("--what").returncode == 2


def test_two_runs_for_one_recording_follow_each_other(bbb: BBBServer) -> None:
    spool_dir = bbb.root / "spool"
    spool_dir.mkdir()
    bbb.publish(R, film=os.urandom(MIB))
    bbb.configure(spool_dir=str(spool_dir))
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(bbb.send("-m", R).returncode)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results, bbb.left) == ([0] * 4, [])
    with tarfile.open(spool_dir / f"{R}.tar") as tar:
        assert f"presentation/{R}/metadata.xml" in tar.getnames()
