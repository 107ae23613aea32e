"""Whoever hears how a run goes on."""

from privbench.records.case import Case, Record


class Listener:
    """Hears everything and shows nothing; a subclass shows it.

    Cases that run at once call from threads of their own.
    """

    def planned(self, cases: int, kept: int) -> None:
        """Hear how many cases there are, and how many of them have a record already."""

    def begins(self, case: Case) -> None:
        """Hear that a case starts."""

    def ticks(self, case: Case, done: int, steps: int, objective: float) -> None:
        """Hear how far an attack in flight is."""

    def ends(self, record: Record) -> None:
        """Hear what came of a case."""
