"""The documents name only what there is: files, commands, settings, keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scalelite.admin.commands import TABLE

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    *(f"docs/{name}.md" for name in ("architecture", "dialin", "migration", "operations", "recordings", "rest", "ssh")),
]


def text_of(document: str) -> str:
    return (ROOT / document).read_text()


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_lead_to_files_and_headings(document: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]*)\)", text_of(document))
    for link in links:
        path, _, heading = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.is_file(), link
        if heading:
            slugs = [re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in headings(target)]
            assert heading in slugs, link


def headings(path: Path) -> list[str]:
    return [line.lstrip("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    rooms = "servers|tenants|tenantSettings|status|config|ssh|recordings|outbox|db|doctor|audit"
    named = set(re.findall(rf"(?:bin/)?scalelite '?((?:{rooms})[\w:]*)", text_of(document)))
    assert named <= set(TABLE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_exist(document: str) -> None:
    configuration = text_of("docs/configuration.md")
    text = text_of(document)
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`", text))
    named |= set(re.findall(r"^([A-Z][A-Z0-9]*_[A-Z0-9_]+)=", text, re.MULTILINE))
    known = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", configuration))
    # Of others: the tests' own, the containers' of Scalelite, and those that AWS' library reads.
    others = {"SCALELITE_REQUIRE_INTEGRATION", "SCALELITE_RECORDING_DIR"}
    assert {name for name in named - others if name not in known and not name.startswith("AWS_")} == set()


def test_our_keys_are_all_described() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "scalelite/store/lua").glob("*.lua"))
    used = set(re.findall(r"balancer:[a-z_]+", scripts))
    assert used == set(re.findall(r"`(balancer:[a-z_]+)", text_of("docs/architecture.md")))


def test_keys_of_tokens_are_described() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "scalelite/store/lua").glob("*.lua"))
    assert "'protector_token_'" in scripts
    assert "`protector_token_{token}`" in text_of("docs/architecture.md")


def test_rooms_are_all_described() -> None:
    text = text_of("docs/architecture.md")
    rooms = {
        path.stem for path in (ROOT / "scalelite").iterdir() if path.stem[0] not in "_." and path.suffix != ".typed"
    }
    assert {room for room in rooms if f"`{room}" not in text and f"scalelite/{room}" not in text} == set()
