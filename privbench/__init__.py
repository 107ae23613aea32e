"""Gradient inversion attacks against defended vision transformers, scored."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privbench.api import audit, run

__all__ = ["audit", "run"]


def __getattr__(name: str) -> Any:
    """Import the public API on first use, so that `privbench --help` loads no torch."""
    if name in __all__:
        from privbench import api

        return getattr(api, name)
    raise AttributeError(f"module 'privbench' has no attribute '{name}'")
