"""Three defenses of one file each, which tests put on the shelf beside those that come along."""

from pathlib import Path

FOLDER = str(Path(__file__).parent)
THREE = ("bottleneck", "clipped", "mixed")
