"""The REST API as schemathesis finds it: whatever it makes up is answered as the description says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.processes import PATIENCE, SECRET, Program
from tests.integration.requirements import require, require_packages

pytestmark = pytest.mark.integration

#: What Scalelite's contract, which clients rely on, has otherwise: unsupported methods and unsigned calls are answered
#: with 200 and XML, and what is more than asked for is dropped in silence.
OTHERWISE = "unsupported_method,ignored_auth,negative_data_rejection"


@pytest.mark.timeout(300)
def test_whatever_is_asked_is_answered_as_described(tmp_path: Path) -> None:
    require("redis-server")
    require_packages("schemathesis")
    folder = tmp_path / "program"
    folder.mkdir()
    with Program(folder, MULTITENANCY_ENABLED="true") as program:
        program.ready()
        url = f"http://127.0.0.1:{program.port}/scalelite/api/openapi.json"
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", url, "--checks=all", f"--exclude-checks={OTHERWISE}",
                "--seed=2", "--max-examples=30", "--no-color", "--warnings=off",
            ],
            check=False, capture_output=True, text=True, cwd=tmp_path, timeout=4 * PATIENCE,
            env={
                "PATH": os.environ["PATH"],
                # The sources last: what is tested may be an installed wheel.
                "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(Path(__file__).parents[2])])),
                "SCHEMATHESIS_HOOKS": "tests.integration.rest_signing",
                "SCALELITE_TEST_SECRET": SECRET,
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        tested = re.search(r"Tested: +(\d+)", done.stdout)
        assert tested is not None
        assert int(tested[1]) == 11
        generated = re.search(r"(\d+) generated", done.stdout)
        assert generated is not None
        assert int(generated[1]) > 400
        program.stop()
        lines = [json.loads(line) for line in program.text.splitlines() if line.startswith('{"time"')]
    calls = [line for line in lines if line.get("path", "").startswith("/scalelite/api/")]
    assert len(calls) > 400
    # All of them were let in, and each route has done what it is for.
    assert not [call for call in calls if call.get("note") == "checksumError"]
    for route, status in (
        ("addServer", 201), ("updateServer", 200), ("getServerInfo", 200), ("panicServer", 200), ("getServers", 200),
        ("deleteServer", 200), ("addTenant", 201), ("updateTenant", 200), ("getTenantInfo", 200), ("getTenants", 200),
        ("deleteTenant", 200),
    ):  # fmt: skip
        assert [c for c in calls if c["path"].endswith(route) and c["status"] == status and "note" not in c], route
    assert not [line for line in program.events if line["level"] in ("error", "critical")]
