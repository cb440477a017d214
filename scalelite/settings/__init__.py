"""Every environment variable: read once, checked at start, handed on as one frozen `Settings`."""

from scalelite.settings.listen import Listen
from scalelite.settings.load import SettingsError, load_settings
from scalelite.settings.model import Settings
from scalelite.settings.redis import RedisSettings

__all__ = ["Listen", "RedisSettings", "Settings", "SettingsError", "load_settings"]
