"""What every input must end in: an answer, or one short sentence; and how inputs are drawn."""

import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from privbench.cli.main import main
from privbench.errors import LONGEST, PrivbenchError

T = TypeVar("T")
INPUTS = 200
few = settings(
    max_examples=12,
    derandomize=False,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
many = settings(few, max_examples=INPUTS)
sizes = pytest.mark.parametrize(
    "inputs", [few, pytest.param(many, marks=pytest.mark.slow)], ids=["few", "many"]
)
"""Each check runs on a few inputs in the plain run and on all in the slow one; its seed is kept,
and so is, as an example, each input that once ended otherwise."""

NASTY = (
    "",
    "._",
    "0b_",
    "-",
    "2001-99-99",
    "9" * 5000,
    "1e999",
    ".nan",
    "-.inf",
    "[" * 3000,
    "[" * 200 + "]" * 200,
    "&a [*a]",
    "&a {b: *a}",
    "{? [1]: 2}",
    "!!python/object/apply:os.system [echo]",
    "!!binary x",
    "!!set {a, b}",
    "!!timestamp x",
    "!!int x",
    "1:60:99",
    "0x",
    "null",
    "~",
    "yes",
    "\ud7ff\ue000",
    "\x85\u2028",
    "\0",
    "%YAML 9.9",
    "a\nb\nc",
    "'",
    "\t",
    "<<: 3",
    "{<<: [1]}",
    "=",
    "x" * 5000,
    "x " * 2500,
    "--- a\n--- b",
)
"""YAML that breaks its own reader, or what comes after it."""
BOMB = (
    "[&a [l, o, l], "
    + ", ".join(
        f"&{y} [{', '.join([f'*{x}'] * 9)}]" for y, x in zip("bcdefghi", "abcdefgh", strict=True)
    )
    + "]"
)
"""Nine levels of nine references: 10**8 words as soon as something writes them out."""

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**9, -1, 0, 1, 2**63, 1e308, -0.0])
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
"""What JSON or YAML can hold."""


def civil(call: Callable[[], T]) -> T | PrivbenchError | OSError:
    """Return the answer, or the user's error after a look at its words; all else is a crash.

    The command line makes a sentence of an OSError that names a file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except PrivbenchError as error:
            check_words(str(error))
            return error
        except OSError as error:
            if error.filename is None:
                raise
            return error


def check_words(text: str) -> None:
    """Demand a sentence or two on one line."""
    assert text.strip()
    assert "Traceback" not in text
    assert text.isprintable(), repr(text)
    assert len(text) <= LONGEST, f"{len(text)} letters: {text[:300]}"


def command(*arguments: str) -> tuple[int, str]:
    """Call the command line here; it ends with 0, 1 or 2 and says something, or it is a crash."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(printed),
        redirect_stderr(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        patch.setattr("sys.argv", ["privbench", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    code, text = int(end.value.code or 0), printed.getvalue()
    assert code in (0, 1, 2)
    assert text.strip()
    assert "Traceback" not in text
    return code, text
