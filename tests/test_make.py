"""What `make` does where something that it needs is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_without_an_accelerator_make_gpu_says_so_and_installs_nothing():
    done = subprocess.run(
        [
            "make",
            "--no-print-directory",
            "-o",
            ".venv/.ready",
            "gpu",
            f"BIN={Path(sys.executable).parent}",
        ],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "This computer has no CUDA device, so nothing was run.\n"
