"""Gradient inversion attacks against defended vision transformers, scored."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privbench.api import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    """Import the public API on first use, so that `privbench --help` loads no torch."""
    if name == "run":
        from privbench.api import run

        return run
    raise AttributeError(f"module 'privbench' has no attribute '{name}'")
