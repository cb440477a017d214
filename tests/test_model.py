"""A model test: whatever happens, and in whatever order, no meeting is lost and none lives twice.

`--hypothesis-profile=long` tries more lives, and longer ones.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.model.machine import BalancerMachine

# A step that hangs ends by itself.
TestBalancer = pytest.mark.timeout(7200)(BalancerMachine.TestCase)
TestBalancer.settings = settings(
    deadline=None,
    # Half of the profile's: a life takes a third of a second.
    max_examples=max(1, settings.default.max_examples // 2),
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
