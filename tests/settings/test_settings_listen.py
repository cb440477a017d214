"""`BIND` in the forms of Puma."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalelite.settings import Listen, SettingsError, load_settings


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("tcp://0.0.0.0:3000", [Listen("tcp", host="0.0.0.0", port=3000)]),
        ("tcp://[::]:3000", [Listen("tcp", host="::", port=3000)]),
        ("tcp://localhost:0/", [Listen("tcp", host="localhost", port=0)]),
        ("tcp://127.0.0.1:80?low_latency=true&backlog=9", [Listen("tcp", host="127.0.0.1", port=80)]),
        ("unix:///run/scalelite.sock", [Listen("unix", path="/run/scalelite.sock")]),
        ("unix:///run/s.sock?umask=0111", [Listen("unix", path="/run/s.sock", umask=0o111)]),
        ("unix:///run/s.sock?umask=007&backlog=9", [Listen("unix", path="/run/s.sock", umask=0o007)]),
        (
            "tcp://[::1]:1, unix:///a",
            [Listen("tcp", host="::1", port=1), Listen("unix", path="/a")],
        ),
    ],
)
def test_bind_takes_the_urls_of_tcp_and_unix_sockets(tmp_path: Path, text: str, endpoints: list[Listen]) -> None:
    assert load_settings({"BIND": text, "PORT": "1234"}, root=tmp_path).bind == tuple(endpoints)


@pytest.mark.parametrize(
    "text",
    [
        "3000",
        "tcp://",
        "tcp://0.0.0.0",
        "tcp://0.0.0.0:99999",
        "tcp://[:::::]:80",
        "tcp://a b:80",
        "tcp://::1:80",
        "tcp://host:80/path",
        "tcp://host:80?umask=0111",
        "unix://relative.sock",
        "unix:///",
        "unix://@abstract",
        "unix:///a?umask=9",
        "unix:///a?surprise=1",
        "ssl://0.0.0.0:443",
        ",",
    ],
)
def test_bind_refuses_other_forms(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="BIND="):
        load_settings({"BIND": text}, root=tmp_path)


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:3000", "tcp://[::]:1", "unix:///a", "unix:///a?umask=0111"])
def test_an_endpoints_url_reads_back_as_itself(tmp_path: Path, url: str) -> None:
    (endpoint,) = load_settings({"BIND": url}, root=tmp_path).bind
    assert endpoint.url == url
