"""Files that are whole or not there."""

import os
from pathlib import Path
from uuid import uuid4

from privbench.errors import Unwritable


def write(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid4().hex}.part")
        try:
            with part.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unwritable(
            f"Cannot write {path}: {error.strerror or error}. All earlier results are kept; "
            "make room or name another folder with --out, and run the same command again."
        ) from None
