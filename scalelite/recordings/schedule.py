"""When a notice is tried again, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

DELAYS: Final = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0)
"""Seconds from one attempt to the next; then every hour."""

HOUR: Final = 3600.0
LIFE: Final = 86400.0
"""Seconds for which a notice is tried."""

JITTER: Final = 0.2
"""Part of a delay by which it may be shorter or longer, so that what failed together does not come back together."""


def delay(attempts: int, uniform: Callable[[float, float], float]) -> float:
    """Seconds to the next attempt after so many."""
    planned = DELAYS[attempts - 1] if 1 <= attempts <= len(DELAYS) else HOUR
    return planned * uniform(1 - JITTER, 1 + JITTER)
