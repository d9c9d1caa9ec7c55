"""What the dashboard keeps of the runs that were looked at last, within a total size."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class RunData(Protocol):
    """Data of one run, which one thread uses at a time."""

    lock: threading.Lock

    @property
    def size_bytes(self) -> int:
        """Size in memory."""
        ...


DataT = TypeVar("DataT", bound=RunData)


class RecentRuns(Generic[DataT]):
    """Data of the runs that were looked at last, up to a total size.

    Args:
      make: returns the data of a run folder, still empty.
      max_bytes: total size above which the runs that were looked at first are dropped.
    """

    def __init__(self, make: Callable[[Path], DataT], max_bytes: int) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._known: OrderedDict[Path, DataT] = OrderedDict()

    @contextlib.contextmanager
    def of(self, folder: Path) -> Iterator[DataT]:
        """Yields the data of a run; no other thread has it inside the block."""
        with self._lock:
            data = self._known.setdefault(folder, self._make(folder))
            self._known.move_to_end(folder)
        with data.lock:
            yield data
        with self._lock:
            total = sum(known.size_bytes for known in self._known.values())
            for other in list(self._known):
                if total <= self._max_bytes:
                    break
                total -= self._known.pop(other).size_bytes
