"""The pages that a viewer sees where no recording is played."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from typing import Final

import attrs

from scalelite.api.replies import NO_CACHE, Reply

HTML: Final = b"text/html; charset=utf-8"
_FALLBACK: Final = "en"


@attrs.frozen
class PlaybackPages:
    """`not_found`: there is no such recording for this viewer. `unavailable`: it can't be looked up just now."""

    not_found: Reply
    unavailable: Reply


def playback_pages(locale: str) -> PlaybackPages:
    """The pages in that language (`de`, `pt-BR`, `pt_BR`), in its language without region, or in English."""
    text = resources.files("scalelite.api").joinpath("playback_texts.json").read_text(encoding="utf-8")
    texts = json.loads(text)
    known = {name.lower(): name for name in texts}
    wanted = locale.replace("_", "-").lower()
    language = known.get(wanted) or known.get(wanted.partition("-")[0]) or _FALLBACK
    not_found = _page(language, *texts[language]["not_found"])
    unavailable = _page(language, *texts[language]["unavailable"])
    return PlaybackPages(
        Reply(not_found, 404, HTML, NO_CACHE),
        Reply(unavailable, 503, HTML, ((b"Cache-Control", b"no-store"), (b"Retry-After", b"10"))),
    )


def _page(language: str, title: str, text: str) -> bytes:
    return f"""<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>body {{ font-family: sans-serif; margin: 15vh auto 0; max-width: 40rem; padding: 0 1rem; text-align: center }}
h3 {{ font-weight: normal }}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<h3>{escape(text)}</h3>
</body>
</html>
""".encode()
