"""The command line as a process: what it needs, what it loads, and how it says that something is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command_line import PATIENCE, PRODUCTION, Shell
from tests.integration.redis_server import RedisServer, free_port

pytestmark = pytest.mark.integration

URL = "https://bbb7.example.net/bigbluebutton/api"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, redis: RedisServer) -> Shell:
    return Shell(tmp_path, REDIS_URL=redis.url)


def test_under_the_name_of_rake_everything_is_in_its_spelling(shell: Shell, tmp_path: Path) -> None:
    rake = tmp_path / "rake"
    rake.write_text(f"#!{sys.executable}\nimport sys\nfrom scalelite.admin.cli import main\nsys.exit(main())\n")
    rake.chmod(0o755)
    shell.command = [str(rake)]
    assert shell.ok(f"servers:add[{URL}, 0f3c]").startswith("OK\nid: ")
    both = shell.ok("servers", "status")
    assert "\tsecret: 0f3c\n" in both
    assert both.count("bbb7.example.net") == 2
    assert shell.run("servers:nonsense").returncode == 1


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (["servers:enable", "nope"], 1, "ERROR: No server found with id: nope"),
        (["servers:enable[nope]"], 1, "ERROR: No server found with id: nope"),
        (["servers:add"], 1, "Error: Please input at least a URL and a secret!"),
        (["servers:add[bbb7.example.net,x]"], 1, "Error: Server URL must start with http:// or https://"),
        (["server:add"], 2, "ERROR: Unknown command 'server:add'; did you mean servers:add?"),
        (["servers", "--wrong"], 2, "ERROR: No such option: --wrong"),
        (["servers:add[a,", "b]"], 1, "ERROR: Don't know how to build task 'servers:add[a,': quote the whole word"),
    ],
)
def test_mistakes_are_one_line_on_standard_error(shell: Shell, words: list[str], status: int, error: str) -> None:
    done = shell.run(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1


def test_help_config_and_version_need_no_store(shell: Shell) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    assert "servers:panic" in shell.ok("--help", REDIS_URL=nowhere)
    assert "Example:\n    scalelite servers:panic" in shell.ok("servers:panic", "--help", REDIS_URL=nowhere)
    settings = json.loads(shell.ok("config", "--json", REDIS_URL=nowhere))["settings"]
    assert settings["REDIS_URL"] == nowhere + "/0"
    assert settings["LOADBALANCER_SECRET"] != PRODUCTION["LOADBALANCER_SECRET"]
    assert PRODUCTION["LOADBALANCER_SECRET"] in shell.ok("config", "--show-secrets", REDIS_URL=nowhere)


def test_unusable_settings_are_all_named(shell: Shell) -> None:
    done = shell.run("servers", SECRET_KEY_BASE="", LOADBALANCER_SECRET="", POLL_INTERVAL="soon")
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split()[1] for line in done.stderr.splitlines()] == [
        "POLL_INTERVAL='soon':",
        "SECRET_KEY_BASE",
        "LOADBALANCER_SECRET",
    ]


@pytest.mark.parametrize("words", [["secret"], ["rake", "secret"], ["completion", "zsh"]])
def test_what_helps_to_make_settings_needs_none(shell: Shell, words: list[str]) -> None:
    assert shell.ok(*words, SECRET_KEY_BASE="", LOADBALANCER_SECRET="")


def test_a_redis_that_is_down_is_said_within_the_deadline(shell: Shell) -> None:
    done = shell.run("servers", REDIS_URL=f"redis://127.0.0.1:{free_port()}", SCALELITE_REDIS_TIMEOUT="3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "refused" in done.stderr
    assert "ERROR: Redis did not answer within 3 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_had_enough_is_no_error(shell: Shell, redis: RedisServer) -> None:
    shell.ok("servers:add", URL, "0f3c")
    running = subprocess.Popen(
        [*shell.command, "servers"], cwd=shell.folder, env=shell.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    errors = running.stderr.read()
    running.stderr.close()
    assert running.wait(PATIENCE) == 1
    assert errors == b""


def test_the_embedded_store_of_a_running_service_is_reached(tmp_path: Path) -> None:
    shell = Shell(tmp_path, SCALELITE_ENV="development")
    # A service that is not there yet: the command starts the store itself, and says so.
    lonely = shell.run("servers:add", URL, "0f3c")
    assert lonely.returncode == 0
    assert lonely.stderr == "WARNING: No service runs on var: its store was started for this command alone\n"
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER], cwd=tmp_path, env=shell.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert keeper.stdout is not None
    try:
        assert keeper.stdout.readline() == b"ready\n"
        assert "bbb7.example.net" in shell.ok("status")
    finally:
        keeper.communicate(b"\n", timeout=PATIENCE)


KEEPER = """
import sys
from pathlib import Path
from twisted.internet import reactor, stdio
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from scalelite.settings.redis import RedisSettings
from scalelite.store.connection import connect

redis = connect(reactor, RedisSettings(namespace="scalelite_development"), timeout=5, data_dir=Path("var"))

class Wait(Protocol):
    def dataReceived(self, data):
        Deferred.fromCoroutine(redis.close()).addCallback(lambda _: reactor.stop())

def ready(_):
    print("ready", flush=True)

redis.call("PING").addCallback(ready)
stdio.StandardIO(Wait())
reactor.run()
"""


def test_a_store_in_the_memory_of_the_service_can_not_be_reached(tmp_path: Path) -> None:
    done = Shell(tmp_path, SCALELITE_ENV="development", PATH=str(tmp_path)).run("servers")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ERROR: The service keeps everything in its own memory")
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import scalelite.admin.cli", ("twisted", "scalelite.store.connection", "scalelite.bbb")),
        (
            "from scalelite.admin.cli import main\nmain(['servers'])",
            ("klein", "treq", "twisted.web", "scalelite.service", "scalelite.bbb.transports"),
        ),
        ("from scalelite.admin.cli import main\nmain(['config'])", ("twisted",)),
    ],
)
def test_a_command_loads_only_what_it_needs(shell: Shell, program: str, absent: tuple[str, ...]) -> None:
    report = f"\nimport sys\nprint(sorted(set(sys.modules) & set({absent!r})), file=sys.stderr)"
    shell.command = [sys.executable, "-c", program + report]
    assert shell.run().stderr.splitlines()[-1] == "[]"


def test_the_installed_program_runs(shell: Shell) -> None:
    program = shutil.which("scalelite", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("the package is not installed here")
    shell.command = [program]
    assert shell.ok("--version").startswith("scalelite ")
