"""What an executor holds: claimed jobs that wait, run, or have ended and are not handed in yet.

Bookkeeping only: no clock, no database, no threads. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from cronqueue.claim import Claimed
from cronqueue.execution import Execution
from cronqueue.finish import Finished

# A claim that lives longer than this is told to the supervisor, well before its first renewal is due.
TELL_AFTER = 0.25
# One attempt at a job, by the claim's token and the job's id. A job that was lost while its body runs may
# be claimed again here: then there are two.
Hold = tuple[str, int]
# Seconds: a buffer that lasts shorter than this is too small for how short its jobs are.
SHORT_BUFFER = 0.1


class Holdings:
    """The jobs in an executor's hands."""

    def __init__(self, places: int, read_ahead: int, entries: int) -> None:
        self.waiting: list[Claimed] = []
        #: What is with the pool, begun or not.
        self.running: set[Execution] = set()
        self.finished: dict[Execution, Finished] = {}
        self._handed_in: set[Execution] = set()
        #: Unstarted ids that are to be released, by their token.
        self.going_back: dict[str, list[int]] = {}
        self._places = places
        self._read_ahead = read_ahead
        self._prefetch = 0
        self._free_entries = list(range(entries))
        self._held: dict[str, set[int]] = {}
        self._claimed_at: dict[str, float] = {}
        self._sent_at: dict[str, float] = {}
        self._told: set[str] = set()
        self._dropped: list[str] = []
        self._waiting_of: Counter[str] = Counter()
        self._adapted_at = float("-inf")
        self._ended_since = 0
        #: How many bodies have ended, in all.
        self.ended = 0
        self._suspects: set[Hold] = set()
        #: What must run with nothing beside it.
        self._alone: set[Hold] = set()

    def is_empty(self) -> bool:
        """Whether nothing is in hand."""
        ended = self.finished or self._handed_in or self.going_back
        return not (self.waiting or self.running or ended)

    def unfinished(self) -> int:
        """How many jobs are claimed and have not ended."""
        return len(self.waiting) + len(self.running)

    # How much to claim.

    def free_places(self) -> int:
        """Places where a job could start at once."""
        return self._places - len(self.running) - len(self.waiting)

    def room(self, offered: int) -> int:
        """How many jobs to claim now: the free places, and a buffer while jobs are short.

        `offered` jobs are with the pool already, but have not begun. A claim fills half of the buffer: the
        other half keeps the pool busy meanwhile, and the database is busy while that one is taken in.
        """
        if len(self.waiting) + offered > self._prefetch // 2 or self._is_reserved():
            return 0
        wanted = self.free_places() + self._prefetch
        most = max(self._prefetch // 2, self._places)
        return max(min(wanted, most, len(self._free_entries) - len(self.waiting)), 0)

    def adapt(self, now: float) -> None:
        """Before a claim: a buffer that would be used up in a moment doubles, one that lasts shrinks.

        So a long queue of short jobs is read in large pieces, and long jobs never hold others.
        """
        elapsed, ended = now - self._adapted_at, self._ended_since
        if ended == 0:
            return
        lasts = elapsed * max(self._prefetch, self._places) / ended
        if lasts < SHORT_BUFFER:
            self._prefetch = min(max(self._prefetch * 2, self._places), 2 * self._read_ahead)
        elif lasts > 4 * SHORT_BUFFER:
            self._prefetch //= 2
        self._adapted_at, self._ended_since = now, 0

    # The way of a job through an executor.

    def add(
        self, lock_token: str, claimed: Sequence[Claimed], claimed_at: float, sent_at: float
    ) -> None:
        """Take in a claim; the best of all that wait is first.

        `sent_at` is when the claim was sent, of `clock.boottime`, since the machine may be suspended between
        then and the start. `claimed_at` is when it was answered: what it brought has not waited before,
        however long the database took.
        """
        if not claimed:
            return
        self._held[lock_token] = {job.id for job in claimed}
        self._claimed_at[lock_token] = claimed_at
        self._sent_at[lock_token] = sent_at
        self._waiting_of[lock_token] = len(claimed)
        self._alone.update((lock_token, job.id) for job in claimed if job.run_alone)
        self.waiting = sorted([*self.waiting, *claimed], key=_rank) if self.waiting else [*claimed]

    def is_better(self, offered: Execution) -> bool:
        """Whether a waiting job must run before this one."""
        return bool(self.waiting) and self.waiting[0].priority > offered.claimed.priority

    def sent_at(self, job: Claimed) -> float:
        """When its claim was sent, of `clock.boottime`."""
        return self._sent_at[job.lock_token]

    def age(self, execution: Execution, now: float) -> float:
        """Seconds since it was claimed."""
        return now - self._claimed_at.get(execution.claimed.lock_token, now)

    def oldest_claim(self) -> float:
        """When the longest-waiting unstarted job was claimed."""
        return min(self._claimed_at[lock_token] for lock_token in self._waiting_of)

    def next_to_offer(self) -> list[Claimed]:
        """The jobs to be offered to the pool now, best first: as many as run, and the buffer behind them."""
        room = self._places + self._prefetch - len(self.running)
        if self._alone:
            room = min(room, self._room_beside_alone())
        if room <= 0 or not self.waiting:
            return []
        jobs, self.waiting = self.waiting[:room], self.waiting[room:]
        self._wait_less(jobs)
        return jobs

    def take_back(self, executions: Sequence[Execution]) -> None:
        """The pool has not begun them: they wait again."""
        self.running.difference_update(executions)
        self._free_entries += [execution.entry for execution in executions]
        jobs = [execution.claimed for execution in executions]
        self._waiting_of.update(job.lock_token for job in jobs)
        self.waiting = sorted(self.waiting + jobs, key=_rank)

    def take_entry(self) -> int:
        """A free line of the board."""
        return self._free_entries.pop()

    def place(self, executions: Iterable[Execution]) -> None:
        """They are offered to the pool."""
        self.running.update(executions)

    def read_nothing_ahead(self) -> None:
        """No buffer until jobs turn out to be short."""
        self._prefetch = 0

    def give_back(self) -> None:
        """What waits goes back unspent; jobs here are too long to hold any beside them."""
        for job in self.waiting:
            self.going_back.setdefault(job.lock_token, []).append(job.id)
        self.waiting.clear()
        self._waiting_of.clear()
        self.read_nothing_ahead()

    def end(self, execution: Execution, finished: Finished) -> bool:
        """A body has ended, and its verdict is to be handed in; False if we gave it up before."""
        self._ended_since += 1
        self.ended += 1
        if execution not in self.running:
            return False
        self.running.remove(execution)
        self.finished[execution] = finished
        return True

    def hand_in(self) -> dict[Execution, Finished]:
        """What has ended, and is handed in now. It stays in our hands until it is settled."""
        handed, self.finished = self.finished, {}
        self._handed_in.update(handed)
        return handed

    def hand_in_again(self, handed: Mapping[Execution, Finished]) -> None:
        """Nobody knows whether the database was told of these."""
        self._handed_in.difference_update(handed)
        self.finished.update(handed)

    def to_release(self) -> list[tuple[str, tuple[int, ...]]]:
        """What goes back; likewise."""
        return [(lock_token, tuple(ids)) for lock_token, ids in self.going_back.items()]

    def settle(
        self,
        executions: Sequence[Execution],
        releases: Iterable[tuple[str, Sequence[int] | None]] = (),
    ) -> list[int]:
        """The database has been told of these; returns the lines of the board that are free again."""
        for execution in executions:
            self.finished.pop(execution, None)
            self._handed_in.discard(execution)
            self._drop(execution.claimed.lock_token, execution.claimed.id)
        for lock_token, ids in releases:
            gone = frozenset(ids or ())
            for job_id in gone:
                self._drop(lock_token, job_id)
            # Others may have joined them meanwhile.
            rest = [each for each in self.going_back.pop(lock_token, ()) if each not in gone]
            if rest:
                self.going_back[lock_token] = rest
        entries = [execution.entry for execution in executions]
        self._free_entries += entries
        return entries

    # What the supervisor knows.

    @property
    def tell_at(self) -> float:
        """When the next claim is old enough to be told of."""
        untold = (at for token, at in self._claimed_at.items() if token not in self._told)
        return min(untold, default=float("inf")) + TELL_AFTER

    def news(self, now: float) -> tuple[list[str], list[str]]:
        """Tokens to be renewed from now on, and tokens that need it no more."""
        held = [
            token
            for token, at in self._claimed_at.items()
            if token not in self._told and now - at >= TELL_AFTER
        ]
        self._told.update(held)
        dropped, self._dropped = self._dropped, []
        return held, dropped

    def compare(self, held: Mapping[str, frozenset[int]]) -> tuple[list[Hold], list[Execution]]:
        """What the database says that we hold: returns the waiting and the running jobs that we lost.

        What it says is ours twice in a row although nobody here knows of it goes back.
        """
        lost = {
            (token, job_id)
            for token, ids in held.items()
            for job_id in self._held.get(token, set()) - ids
        }
        waiting = [
            (job.lock_token, job.id) for job in self.waiting if (job.lock_token, job.id) in lost
        ]
        self.waiting = [job for job in self.waiting if (job.lock_token, job.id) not in lost]
        self._waiting_of = Counter(job.lock_token for job in self.waiting)
        for hold in waiting:
            self._drop(*hold)
        orphans = {
            (token, job_id)
            for token, ids in held.items()
            for job_id in ids - self._held.get(token, set())
        }
        for token, job_id in self._suspects & orphans:
            self.going_back.setdefault(token, []).append(job_id)
        self._suspects = orphans
        running = [
            each for each in self.running if (each.claimed.lock_token, each.claimed.id) in lost
        ]
        return waiting, running

    def _drop(self, lock_token: str, job_id: int) -> None:
        if self._alone:
            self._alone.discard((lock_token, job_id))
        ids = self._held.get(lock_token)
        if ids is None:
            return
        ids.discard(job_id)
        if not ids:
            del self._held[lock_token], self._claimed_at[lock_token], self._sent_at[lock_token]
            if lock_token in self._told:
                self._told.discard(lock_token)
                self._dropped.append(lock_token)

    def _wait_less(self, jobs: Iterable[Claimed]) -> None:
        for lock_token, count in Counter(job.lock_token for job in jobs).items():
            self._waiting_of[lock_token] -= count
            if not self._waiting_of[lock_token]:
                del self._waiting_of[lock_token]

    def _room_beside_alone(self) -> int:
        """How many may be offered while a job that must run alone is among those in hand."""
        if any(each.claimed.run_alone for each in self.running):
            return 0
        if self.waiting and self.waiting[0].run_alone:
            return 0 if self.running else 1
        return next((n for n, job in enumerate(self.waiting) if job.run_alone), len(self.waiting))

    def _is_reserved(self) -> bool:
        """A job that must run alone is here: nothing more is taken until it is through."""
        return bool(self._alone)


def _rank(job: Claimed) -> tuple[int, datetime, int]:
    """The order in which jobs run: higher priority, earlier run_at, lower id."""
    return (-job.priority, job.run_at, job.id)
