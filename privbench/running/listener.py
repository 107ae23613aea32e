"""Whoever hears how a run goes on, and how often those who run cases elsewhere tell it."""

import time

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


class Pace:
    """Lets a report of progress through now and then, and that of a last step always."""

    def __init__(self, between: float) -> None:
        self.between, self.last = between, 0.0

    def due(self, done: int, steps: int) -> bool:
        """Whether so many seconds have passed since the last report, or nothing is to come."""
        now = time.monotonic()
        if now - self.last < self.between and done < steps:
            return False
        self.last = now
        return True
