"""Makes the records that are missing, and writes their tables however that ends."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from privbench.errors import BadData
from privbench.records.asked import Asked, named
from privbench.records.files import write
from privbench.records.sealed import SealedCase, SealedRecord
from privbench.records.store import RecordStore

if TYPE_CHECKING:
    import pandas as pd

C_co = TypeVar("C_co", bound=SealedCase, covariant=True)
R = TypeVar("R", bound=SealedRecord[Any])
Tables = Callable[[Sequence[R]], "Mapping[str, pd.DataFrame]"]
"""Makes tables of records, by their place under the results folder."""


@runtime_checkable
class Task(Protocol[C_co]):
    """A case, and under which name its pictures were asked for."""

    @property
    def case(self) -> C_co:
        """What a record answers."""
        ...

    @property
    def asked(self) -> Asked:
        """The name."""
        ...


T = TypeVar("T", bound=Task[Any])


def finish(
    tasks: Sequence[T],
    store: RecordStore[Any, R],
    make: Callable[[T, Sequence[R]], R],
    tables: Tables[R],
) -> list[R]:
    """Return a record for each task, in their order; those on record stay as they are.

    What is missing is made from a task and the records of the tasks before it. Tables are of all
    records of the store. Raises Unwritable before the first one is made.
    """
    known = {task.case.key: store.get(task.case) for task in tasks}
    store.check_writable()
    store.ask({task.case.key: task.asked for task in tasks}, known)
    earlier: list[R] = []
    try:
        for task in tasks:
            if (there := known[task.case.key]) is None:
                there = make(task, earlier)
                store.put(there)
            earlier.append(there)
    except BaseException:
        with suppress(BadData):
            write_tables(store, tables)
        raise
    write_tables(store, tables)
    found = [(task, store.get(task.case)) for task in tasks]
    return [named(record, task.asked) for task, record in found if record is not None]


def write_tables(store: RecordStore[Any, R], tables: Tables[R]) -> None:
    """Write the tables of all records, figures to six significant digits."""
    for place, table in tables(list(store.records())).items():
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        write(store.folder / place, text.encode())
