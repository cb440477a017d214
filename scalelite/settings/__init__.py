"""Every environment variable: read once, checked at start, handed on as one frozen `Settings`."""

from scalelite.settings.listen import Listen
from scalelite.settings.load import load_settings
from scalelite.settings.model import Settings
from scalelite.settings.problems import SettingsError
from scalelite.settings.redis import RedisSettings
from scalelite.settings.render import render, render_json

__all__ = ["Listen", "RedisSettings", "Settings", "SettingsError", "load_settings", "render", "render_json"]
