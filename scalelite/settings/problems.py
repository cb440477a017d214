"""How a fault in the settings is put into words."""

from __future__ import annotations

from collections.abc import Iterable

from scalelite.settings.parse import shown
from scalelite.settings.variables import MASK


class SettingsError(Exception):
    """The settings cannot be used; `problems` holds a sentence for each fault, none of them with a secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def problem(name: str, value: str, right_form: str, *, secret: bool = False, reason: str = "") -> str:
    """One problem in words: the variable, its value (masked if secret), why, and the right form."""
    quoted = repr(MASK) if secret else shown(value)
    return f"{name}={quoted}: " + (f"{reason}; " if reason else "") + f"expected {right_form}"
