"""What is wrong with a submission, a sentence each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    place: str
    """The file or folder, as it was named."""
    kind: str
    """A word for programs: file, schema, seal, label, component, weights, pictures, score,
    selection, answer, table or missing."""
    sentence: str


@dataclass(frozen=True)
class Lost:
    """A case that has no score, which is no fault and lowers or raises the mean of the others."""

    place: str
    status: str
    """failed or refused."""
    error: str


@dataclass
class Findings:
    """What came of a look at a submission."""

    records: int = 0
    """That could be read."""
    sound: int = 0
    """Of these, how many have no fault."""
    faults: list[Fault] = field(default_factory=list)
    unseen: int = 0
    """Records of pictures that are not here, whose scores were taken as they are."""
    unbuilt: int = 0
    """Records of weights that do not come along, whose digest was taken as it is."""
    lost: list[Lost] = field(default_factory=list)

    def add(self, place: Path | str, kind: str, sentence: str) -> None:
        """Note a fault; letters that a terminal would obey are written out."""
        self.faults.append(Fault(printable(str(place)), kind, printable(sentence)))

    def lose(self, place: Path, status: str, error: str) -> None:
        """Note a case without a score."""
        self.lost.append(Lost(printable(str(place)), status, printable(error)))

    def content(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "records": self.records,
            "sound": self.sound,
            "unseen": self.unseen,
            "unbuilt": self.unbuilt,
            "faults": [vars(one) for one in self.faults],
            "lost": [vars(one) for one in self.lost],
        }


def printable(text: str) -> str:
    """Return a text in which letters that a terminal would obey are written out."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
