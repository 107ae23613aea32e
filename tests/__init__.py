"""Tests; shapes and types of what functions get and return are checked while they run."""

from tests import typed

__all__ = ["typed"]  # imported before any module of the package, which it changes
