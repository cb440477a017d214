"""The folders and files of a BigBlueButton server that `deploy/bbb` works with, and its scripts in place."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.recordings.tars import metadata_xml

SCRIPTS = Path(__file__).parents[2] / "deploy" / "bbb"
SECRET = "the secret of seven"
URL = "https://bbb7.example.com"


class BBBServer:
    """A server below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scripts = root / "scripts"
        self.published = root / "published"
        self.status = root / "recording" / "status" / "published"
        self.work = root / "work"
        self.bin = root / "bin"
        for folder in (self.scripts / "post_publish", self.published, self.status, self.bin):
            folder.mkdir(parents=True)
        shutil.copy(SCRIPTS / "scalelite_post_publish.rb", self.scripts / "post_publish")
        shutil.copy(SCRIPTS / "scalelite_batch_import.sh", self.scripts)
        bbb = {"published_dir": str(self.published), "recording_dir": str(root / "recording")}
        (self.scripts / "bigbluebutton.yml").write_text(yaml.safe_dump(bbb))
        self.properties = root / "bbb-web.properties"
        self.properties.write_text(
            f"# bigbluebutton.web.serverURL=https://old.example.com\nsecuritySalt=overridden below\n"
            f"bigbluebutton.web.serverURL={URL}\nsecuritySalt = {SECRET}\n"
        )

    def configure(self, **own: Any) -> None:
        """Write scalelite.yml."""
        settings = {"work_dir": str(self.work), "bbb_web_properties": str(self.properties), **own}
        (self.scripts / "scalelite.yml").write_text(
            yaml.safe_dump({k: v for k, v in settings.items() if v is not None})
        )

    def publish(self, record_id: str, *formats: str, film: bytes = b"film") -> None:
        """Have a recording, published in these formats."""
        for playback_format in formats or ("presentation",):
            folder = self.published / playback_format / record_id
            (folder / "video").mkdir(parents=True)
            (folder / "metadata.xml").write_bytes(metadata_xml(playback_format, record_id))
            (folder / "video" / "webcams.webm").write_bytes(film)
            (self.status / f"{record_id}-{playback_format}.done").touch()

    def command(self, name: str, body: str) -> Path:
        """Put a command into the path of the scripts; the file in which it may write."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return self.root / f"{name}.log"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "BBB_SCRIPTS": str(self.scripts),
            "BBB_STATUS": str(self.status),
        }
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=100, env=environ, cwd=self.scripts
        )

    def send(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script as BigBlueButton does."""
        return self.run("ruby", "-w", "post_publish/scalelite_post_publish.rb", *arguments)

    def batch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("bash", "scalelite_batch_import.sh", *arguments)

    @property
    def sent(self) -> list[str]:
        """What is noted as sent."""
        return sorted(path.name for path in self.status.glob("*-sender.done"))

    @property
    def left(self) -> list[str]:
        """What the script has left in its work folder."""
        return sorted(path.name for path in self.work.iterdir()) if self.work.exists() else []
