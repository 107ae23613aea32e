"""Training finds its two folders by the names that are in use, or says which it looked for."""

from pathlib import Path

import pytest

from privbench.errors import BadData
from privbench.training.split import Split, read_split
from tests.released import picture


def opened(root: Path, split: str) -> Split:
    return read_split("folder", root, split, {}, 32, 2)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_test_pictures_lie_in_any_usual_folder(name: str, tmp_path: Path):
    for place in ("train", name):
        for kind in ("n01440764", "n02102040"):
            picture(tmp_path / place / kind / "0.png", (32, 32))
    assert len(opened(tmp_path, "train")) == len(opened(tmp_path, "test")) == 2


def test_a_folder_called_test_counts_before_one_called_val(tmp_path: Path):
    picture(tmp_path / "val" / "a" / "0.png", (32, 32))
    for number in range(3):
        picture(tmp_path / "test" / "a" / f"{number}.png", (32, 32))
    assert len(opened(tmp_path, "test")) == 3


def test_what_was_looked_for_is_said(tmp_path: Path):
    picture(tmp_path / "cat" / "0.png", (32, 32))
    with pytest.raises(BadData, match=r"no folder train; .* above them with --data-root PATH"):
        opened(tmp_path, "train")
    with pytest.raises(BadData, match="no folder test or val or valid or validation"):
        opened(tmp_path, "test")
