"""A desk over a whole balancer."""

from __future__ import annotations

import pytest

from tests.admin.desk import Desk
from tests.balancer import Balancer


@pytest.fixture
def desk(balancer: Balancer) -> Desk:
    """Runs commands on the balancer's pool."""
    return Desk.of(balancer)
