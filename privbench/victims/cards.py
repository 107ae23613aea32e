"""Weights that come along, and the cards in weights files; all without torch."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


def bundled(name: str) -> Path | None:
    """Return the weights that come along with a victim, if there are any."""
    path = Path(str(files("privbench.assets") / "weights" / f"{name}.safetensors"))
    return path if path.is_file() else None


def card(path: Path) -> dict[str, Any] | None:
    """Read the card in a safetensors header; None where there is none that makes sense.

    A card says what the weights are: model, settings, where they come from, what they reach.
    Only the header is read, whose length safetensors itself bounds; no tensor is.
    """
    try:
        with safe_open(path, "np") as file:
            found = json.loads((file.metadata() or {}).get("card", "null"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
