"""The examples of docs/rest.md, run by a shell as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.processes import PATIENCE, SECRET, Program, redis
from tests.integration.requirements import require

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).parents[2] / "docs" / "rest.md"
#: curl, as far as the examples need it.
CURL = f"""#!{sys.executable}
import sys, urllib.request
words = iter(sys.argv[1:])
headers, body, url = {{}}, None, None
for word in words:
    if word == "-H":
        name, _, value = next(words).partition(": ")
        headers[name] = value
    elif word == "-d":
        body = next(words).encode()
    else:
        url = word
print(urllib.request.urlopen(urllib.request.Request(url, body, headers)).read().decode())
"""


def example(name: str) -> str:
    found = re.search(rf"```sh\n# {name}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_examples_work_as_they_are(tmp_path: Path) -> None:
    require("redis-server", "redis-cli", "openssl", "sh")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "curl").write_text(CURL)
    (tools / "curl").chmod(0o755)
    folder = tmp_path / "program"
    folder.mkdir()

    with Program(folder) as program:
        program.ready()

        def run(name: str, **variables: str) -> dict[str, str]:
            path = f"{tools}:{os.environ['PATH']}"
            url = f"http://127.0.0.1:{program.port}"
            done = subprocess.run(
                ["sh", "-eu", "-c", example(name)],
                check=False, capture_output=True, text=True, timeout=PATIENCE,
                env={"PATH": path, "URL": url, "SECRET": SECRET, **variables},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            answer: dict[str, str] = json.loads(done.stdout)
            return answer

        added = run("signature")
        assert added["url"] == "https://bbb9.example.com/bigbluebutton/api"
        assert run("checksum", ID=added["id"]) == added
        assert redis(folder / "var" / "redis" / "redis.sock", "SCARD", "scalelite_development:servers") == "1"
        program.stop()
        assert SECRET not in program.text
        assert "its secret" not in program.text
        assert not re.search(r"checksum=[0-9a-f]{8}", program.text)
