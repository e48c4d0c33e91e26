"""The board: a little memory that a supervisor shares with its executors.

What stands on it survives the executor: which jobs' bodies had begun, and until when they may run. Nor does
it need the executor: a body that lets nothing else of its process run keeps its lease, since the token of
its claim stands here before it begins. The supervisor writes when it last renewed the leases; an executor
that finds this too old starts nothing.

    header   renewed_at f64 · beat_at f64
    entries  job_id i64 · hard_deadline f64 · lock_token, one for each job that began and is not finished yet

Renewals are of `clock.boottime`, since leases run out while the machine sleeps. What bodies and loops do
is of `time.monotonic`: they sleep with it. Both are the same in all processes. A single value is written
at once, so no lock.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct("dd")
_FLOAT = struct.Struct("d")
_ENTRY = struct.Struct("qd24s")
_ID = struct.Struct("q")
_REST = struct.Struct("d24s")


@dataclass(frozen=True, slots=True)
class Begun:
    """A job whose body began; `hard_deadline` is 0 without one, or when the body is over."""

    entry: int
    job_id: int
    hard_deadline: float
    lock_token: str


class Board:
    """One executor's board, mapped into two processes."""

    def __init__(self, path: Path, entries: int) -> None:
        self.path = path
        self.entries = entries
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _HEADER.size + entries * _ENTRY.size)

    @classmethod
    def create(cls, entries: int) -> Board:
        """A new, empty board, in a file that only its owner can read."""
        number, name = tempfile.mkstemp(prefix="sched-board-")
        try:
            # Written, not only made long: on a full disk this fails here, and not at the first touch.
            with os.fdopen(number, "wb") as file:
                file.write(bytes(_HEADER.size + entries * _ENTRY.size))
        except OSError:
            os.unlink(name)
            raise
        return cls(Path(name), entries)

    def forget_file(self) -> None:
        """Both sides have mapped it: the name is not needed any more."""
        self.path.unlink(missing_ok=True)

    @property
    def renewed_at(self) -> float:
        """When the leases were last renewed."""
        value: float = _FLOAT.unpack_from(self._memory, 0)[0]
        return value

    @renewed_at.setter
    def renewed_at(self, moment: float) -> None:
        _FLOAT.pack_into(self._memory, 0, moment)

    @property
    def beat_at(self) -> float:
        """When the executor's loop last turned."""
        value: float = _FLOAT.unpack_from(self._memory, _FLOAT.size)[0]
        return value

    @beat_at.setter
    def beat_at(self, moment: float) -> None:
        _FLOAT.pack_into(self._memory, _FLOAT.size, moment)

    def begin(self, entry: int, job_id: int, lock_token: str, hard_deadline: float | None) -> None:
        """The body begins now. The id goes last: an entry counts by it."""
        offset = _HEADER.size + entry * _ENTRY.size
        rest = hard_deadline or 0.0, lock_token.encode()
        _REST.pack_into(self._memory, offset + _ID.size, *rest)
        _ID.pack_into(self._memory, offset, job_id)

    def end_body(self, entry: int) -> None:
        """The body is over; its attempt counts until the finish is known."""
        _FLOAT.pack_into(self._memory, _HEADER.size + entry * _ENTRY.size + _ID.size, 0.0)

    def clear(self, entry: int) -> None:
        """The job is finished, or lost: whatever happens now does not concern it."""
        _ENTRY.pack_into(self._memory, _HEADER.size + entry * _ENTRY.size, 0, 0.0, b"")

    def begun(self) -> list[Begun]:
        """The jobs whose bodies began and that are not finished."""
        found = []
        for entry in range(self.entries):
            job_id, deadline, token = _ENTRY.unpack_from(
                self._memory, _HEADER.size + entry * _ENTRY.size
            )
            if job_id:
                found.append(
                    Begun(entry, job_id, deadline, token.rstrip(b"\0").decode("ascii", "replace"))
                )
        return found

    def close(self) -> None:
        self._memory.close()
