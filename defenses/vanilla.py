"""Learned position embeddings, as in the first vision transformer (arXiv:2010.11929)."""

from typing import ClassVar

from privbench.defense import Defense


class Vanilla(Defense):
    """Learned position embeddings, nothing moved: the undefended control."""

    paper: ClassVar[str] = "arXiv:2010.11929"
    answered_by: ClassVar[tuple[str, ...]] = ("auto", "pe_ls")
