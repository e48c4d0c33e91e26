"""The board: a little memory that a supervisor shares with its executors.

What stands on it survives the executor: which jobs' bodies had begun, and until when they may run. Nor does
it need the executor: a body that lets nothing else of its process run keeps its lease, since the token of
its claim stands here before it begins. The supervisor writes when it last renewed the leases; an executor
that finds this too old starts nothing.

    header   renewed_at f64 · beat_at f64 · refused_at f64
    entries  job_id i64 · hard_deadline f64 · lock_token, one for each job that began and is not finished yet

Renewals, and when the server refused either side a connection, are of `clock.boottime`, since leases run
out while the machine sleeps. What bodies and loops do
is of `time.monotonic`: they sleep with it. Both are the same in all processes. A single value is written
at once, so no lock.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ENTRY = struct.Struct("qd24s")
_TOKEN = struct.Struct("24s")
# In the place of a deadline: the body has ended, and nothing is to be done about it any more.
_OVER = -1.0
# In words of eight bytes: where the header's three lie, and those of an entry.
_WORD = 8
_RENEWED_AT, _BEAT_AT, _REFUSED_AT, _ENTRIES = 0, 1, 2, 3
_ENTRY_WORDS = _ENTRY.size // _WORD


@dataclass(frozen=True, slots=True)
class Begun:
    """A job whose body began, and is not finished."""

    entry: int
    job_id: int
    hard_deadline: float
    lock_token: str

    @property
    def is_over(self) -> bool:
        """The body has ended; its finish is not known to be written."""
        return self.hard_deadline == _OVER

    def is_overdue(self, now: float) -> bool:
        """The body has run past its hard deadline; 0 stands for none."""
        return 0.0 < self.hard_deadline < now


class Board:
    """One executor's board, mapped into two processes."""

    def __init__(self, path: Path, entries: int) -> None:
        self.path = path
        self.entries = entries
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), (_ENTRIES + entries * _ENTRY_WORDS) * _WORD)
        self._ids = memoryview(self._memory).cast("q")
        self._times = memoryview(self._memory).cast("d")

    @classmethod
    def create(cls, entries: int) -> Board:
        """A new, empty board, in a file that only its owner can read."""
        number, name = tempfile.mkstemp(prefix="sched-board-")
        try:
            # Written, not only made long: on a full disk this fails here, and not at the first touch.
            with os.fdopen(number, "wb") as file:
                file.write(bytes((_ENTRIES + entries * _ENTRY_WORDS) * _WORD))
        except OSError as error:
            error.filename = name
            os.unlink(name)
            raise
        return cls(Path(name), entries)

    def forget_file(self) -> None:
        """Both sides have mapped it: the name is not needed any more."""
        self.path.unlink(missing_ok=True)

    @property
    def renewed_at(self) -> float:
        """When the leases were last renewed."""
        return self._times[_RENEWED_AT]

    @renewed_at.setter
    def renewed_at(self, moment: float) -> None:
        self._times[_RENEWED_AT] = moment

    @property
    def beat_at(self) -> float:
        """When the executor's loop last turned."""
        return self._times[_BEAT_AT]

    @beat_at.setter
    def beat_at(self, moment: float) -> None:
        self._times[_BEAT_AT] = moment

    @property
    def refused_at(self) -> float:
        """When the server last had no connection for one of us; 0 for never."""
        return self._times[_REFUSED_AT]

    @refused_at.setter
    def refused_at(self, moment: float) -> None:
        self._times[_REFUSED_AT] = moment

    def begin(self, entry: int, job_id: int, lock_token: str, hard_deadline: float | None) -> None:
        """The body begins now. The id goes last: an entry counts by it."""
        place = _ENTRIES + entry * _ENTRY_WORDS
        if hard_deadline is not None:
            self._times[place + 1] = hard_deadline
        _TOKEN.pack_into(self._memory, (place + 2) * _WORD, lock_token.encode())
        self._ids[place] = job_id

    def end_body(self, entry: int) -> None:
        """The body is over; its attempt counts until the finish is known."""
        self._times[_ENTRIES + entry * _ENTRY_WORDS + 1] = _OVER

    def clear(self, entries: Iterable[int]) -> None:
        """These jobs are finished, or lost: whatever happens now does not concern them."""
        for entry in entries:
            place = (_ENTRIES + entry * _ENTRY_WORDS) * _WORD
            _ENTRY.pack_into(self._memory, place, 0, 0.0, b"")

    def begun(self) -> list[Begun]:
        """The jobs whose bodies began and that are not finished."""
        found = []
        ids = self._ids[_ENTRIES::_ENTRY_WORDS].tolist()
        for entry in (entry for entry, job_id in enumerate(ids) if job_id):
            place = (_ENTRIES + entry * _ENTRY_WORDS) * _WORD
            job_id, deadline, token = _ENTRY.unpack_from(self._memory, place)
            if job_id:
                lock_token = token.rstrip(b"\0").decode("ascii", "replace")
                found.append(Begun(entry, job_id, deadline, lock_token))
        return found

    def close(self) -> None:
        self._ids.release()
        self._times.release()
        self._memory.close()
