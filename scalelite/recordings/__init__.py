"""Recordings: their database, files, import, publication and notifications."""
