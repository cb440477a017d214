"""A line that is being typed: text, cursor, history, what was cut. Nothing of terminals."""

from __future__ import annotations

from typing import Final

import attrs

#: Characters of a line that is typed, at most.
LONGEST: Final = 4096


@attrs.define
class History:
    """The lines of a session, oldest first; the oldest go when there are more than `limit`."""

    limit: int = 500
    lines: list[str] = attrs.field(factory=list)

    def add(self, line: str) -> None:
        """Remember a line, unless it is blank, begins with a blank, or is the last one again."""
        if line.strip() and not line.startswith(" ") and self.lines[-1:] != [line]:
            self.lines.append(line)
            del self.lines[: -self.limit]


class Editor:
    """One line in the making."""

    def __init__(self, history: History | None = None) -> None:
        self.text = ""
        self.cursor = 0
        self._history = [] if history is None else history.lines
        self._place = len(self._history)
        # Lines of the history that were edited and left, and the new line itself, by place.
        self._edited: dict[int, str] = {}
        self._cut = ""

    @property
    def before(self) -> str:
        """What stands to the left of the cursor."""
        return self.text[: self.cursor]

    def insert(self, text: str) -> bool:
        """Insert at the cursor; False if the line is too long for it."""
        if len(self.text) + len(text) > LONGEST:
            return False
        self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
        self.cursor += len(text)
        return True

    def _remove(self, start: int, end: int) -> str:
        removed = self.text[start:end]
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start
        return removed

    def backspace(self) -> None:
        """Remove the character to the left."""
        if self.cursor:
            self._remove(self.cursor - 1, self.cursor)

    def delete(self) -> None:
        """Remove the character under the cursor."""
        self._remove(self.cursor, self.cursor + 1)

    def left(self) -> None:
        """One character to the left."""
        self.cursor = max(0, self.cursor - 1)

    def right(self) -> None:
        """One character to the right."""
        self.cursor = min(len(self.text), self.cursor + 1)

    def home(self) -> None:
        """To the beginning."""
        self.cursor = 0

    def end(self) -> None:
        """To the end."""
        self.cursor = len(self.text)

    def word_left(self) -> None:
        """To the beginning of the word to the left."""
        self.cursor = self._word_start()

    def word_right(self) -> None:
        """To the end of the word to the right."""
        place = self.cursor
        while place < len(self.text) and self.text[place].isspace():
            place += 1
        while place < len(self.text) and not self.text[place].isspace():
            place += 1
        self.cursor = place

    def _word_start(self) -> int:
        place = self.cursor
        while place and self.text[place - 1].isspace():
            place -= 1
        while place and not self.text[place - 1].isspace():
            place -= 1
        return place

    def cut_word(self) -> None:
        """Cut the word to the left."""
        self._cut = self._remove(self._word_start(), self.cursor)

    def cut_before(self) -> None:
        """Cut all that is to the left."""
        self._cut = self._remove(0, self.cursor)

    def cut_after(self) -> None:
        """Cut all that is to the right."""
        self._cut = self._remove(self.cursor, len(self.text))

    def paste(self) -> None:
        """Insert what was cut last."""
        self.insert(self._cut)

    def older(self) -> None:
        """Go back in the history."""
        self._turn(self._place - 1)

    def newer(self) -> None:
        """Go forth in the history, to the new line in the end."""
        self._turn(self._place + 1)

    def _turn(self, place: int) -> None:
        if not 0 <= place <= len(self._history):
            return
        self._edited[self._place] = self.text
        self._place = place
        stored = self._history[place] if place < len(self._history) else ""
        self.text = self._edited.get(place, stored)
        self.cursor = len(self.text)

    def replace_before(self, text: str) -> None:
        """Put `text` in place of all that stands to the left of the cursor."""
        self.text = text + self.text[self.cursor :]
        self.cursor = len(text)
