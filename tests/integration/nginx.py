"""A real nginx with the configuration of `deploy/nginx`, ports and folders replaced.

with Nginx(folder, "scalelite.conf", upstream=3000) as nginx:
    nginx.url
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.redis_server import free_port
from tests.integration.requirements import require

DEPLOYED: Final = Path(__file__).parents[2] / "deploy/nginx"
#: Seconds that nginx has to answer or to end.
STARTING: Final = 10.0

_MAIN: Final = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    include mime.types;
    default_type application/octet-stream;
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include site.conf;
}}
"""


class Nginx:
    """nginx in `folder`, which also stands for /var/bigbluebutton; `site` is a file of `deploy/nginx`."""

    def __init__(self, folder: Path, site: str, upstream: int, *, types: Path = Path("/etc/nginx/mime.types")) -> None:
        require("nginx")
        self.folder = folder
        self.recordings = folder / "bigbluebutton"
        self.port = free_port()
        self.tls_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "snippets").mkdir(parents=True)
        for directory in ("published", "playback"):
            (self.recordings / directory).mkdir(parents=True)
        for source in (*DEPLOYED.glob("snippets/*.conf"), DEPLOYED / site):
            target = "site.conf" if source.name == site and source.parent == DEPLOYED else f"snippets/{source.name}"
            (folder / target).write_text(self._settled(source.read_text(), upstream))
        _certify(folder)
        shutil.copy(types, folder / "mime.types")
        # As root, nginx would give its workers to somebody who cannot read the test's folder.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user))

    def _settled(self, text: str, upstream: int) -> str:
        text = re.sub(r"(?m)^ *listen \[::\].*\n", "", text)
        text = text.replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{self.tls_port} ssl")
        text = text.replace("127.0.0.1:3000", f"127.0.0.1:{upstream}")
        text = text.replace("/etc/letsencrypt/live/scalelite.example.com", str(self.folder))
        return text.replace("/var/bigbluebutton", str(self.recordings))

    @property
    def published(self) -> Path:
        """Where published recordings are."""
        return self.recordings / "published"

    @property
    def log(self) -> str:
        """What it has to complain about."""
        path = self.folder / "error.log"
        return path.read_text() if path.exists() else ""

    def __enter__(self) -> Self:
        command = ["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr"]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=20)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr, checked.stderr
        self._process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTING
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, "nginx did not start"
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=STARTING).close()
        except ConnectionRefusedError:
            return False
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=STARTING)


def _certify(folder: Path) -> None:
    """A certificate for localhost where nginx looks for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "privkey.pem").write_bytes(private)
