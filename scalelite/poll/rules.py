"""How the settings have the poller work."""

from __future__ import annotations

from scalelite.cluster.statistics import LoadRule, PollLimits
from scalelite.poll.poller import PollRules
from scalelite.settings import Settings


def poll_rules(settings: Settings, *, jitter: float | None = None) -> PollRules:
    """The rules of a pass; `jitter` in seconds, by default a twelfth of the interval."""
    limits = PollLimits(
        settings.server_healthy_threshold,
        settings.server_unhealthy_threshold,
        settings.default_meeting_ttl,
        settings.new_meeting_load,
        pending_grace=2 * settings.response_timeout + settings.redis_timeout,
    )
    return PollRules(
        LoadRule(settings.load_min_user_count, settings.load_join_buffer_time),
        limits,
        settings.poller_threads,
        jitter=min(5.0, settings.poll_interval / 12) if jitter is None else jitter,
    )
