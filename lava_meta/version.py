"""The version, in one place: `pyproject.toml` reads it, files and reports carry it."""

__version__ = "0.2.0"
