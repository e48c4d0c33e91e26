"""An executor: the process in which tasks run.

    1. load the user's code, tell the supervisor which tasks it knows
    2. loop: take messages and ended jobs · start what waits · exchange with the database
    3. drain: nothing new, unstarted jobs go back unspent, running ones end
    4. leave

A courier takes to the database what it has to say, and it goes on meanwhile. The supervisor renews its
leases, wakes it when there is work, and ends it when it must be ended.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cronqueue import wakeup
from cronqueue.admission import Admission, admit
from cronqueue.board import Board
from cronqueue.claim import Claimant, new_token
from cronqueue.clock import boottime
from cronqueue.clockwatch import ClockWatch
from cronqueue.courier import Courier, Errand
from cronqueue.database import Database, is_outage
from cronqueue.errors import ClockLeapt, JobInterrupted, OutcomeUnknown
from cronqueue.exchange import Order, Reply, Request, exchange, give_back_all, in_words
from cronqueue.execution import Execution, Surroundings
from cronqueue.executorspec import ExecutorSpec
from cronqueue.finish import Finished, Retention
from cronqueue.gatewatch import FAILURE_PAUSE, GateWatch
from cronqueue.holdings import Holdings
from cronqueue.hooks import announce
from cronqueue.imports import import_all
from cronqueue.interrupts import Interrupts
from cronqueue.joblog import hear_logging
from cronqueue.outage import Outage
from cronqueue.pipes import ExecutorEnd
from cronqueue.pool import Pool
from cronqueue.registry import all_tasks, find_task
from cronqueue.search import NEVER, Search
from cronqueue.unknownclaims import UnknownClaims

log = logging.getLogger("cronqueue.worker")

# A claimed job that could not start in this time goes back: somebody else may have a place for it.
LONGEST_UNSTARTED = 0.5
# Nor does the next one that must run alone come for so long: the free places would wait with it.
ALONE_PAUSE = 10.0
# So many jobs that ended while a claim is under way are handed in beside it.
MANY_ENDED = 100
# The loop turns at least this often, for its sign of life.
LONGEST_TURN = 5.0
# While no renewal is known of nothing begins; whether there was one is looked at this often.
STALE_PAUSE = 0.25
# At an abort, what ignores its interruption for this long is left behind.
ABORT_GRACE = 2.0
# Between tries while the database is away. Work goes on this much later than it could, at worst.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Executor:
    """Holds claims, runs them, and keeps the database informed."""

    def __init__(
        self, spec: ExecutorSpec, pipe: ExecutorEnd, board: Board, database: Database
    ) -> None:
        self._spec = spec
        self._pipe = pipe
        self._board = board
        self._database = database
        settings = spec.settings
        self._trusted_for = settings.lease.total_seconds() * 2 / 3
        self._interrupted_after = settings.cancel_timeout.total_seconds() / 3
        self._claimant = Claimant(spec.worker_id, spec.name, settings.lease)
        self._retention = Retention(
            settings.keep_finished == timedelta(0), settings.destroy_failed_jobs
        )
        self._holdings = Holdings(settings.concurrency, settings.read_ahead, spec.board_entries)
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pool = Pool(
            settings.concurrency,
            board,
            may_begin=self._may_begin,
            begun=lambda execution: self._inbox.put(("limited", execution)),
            ended=lambda: self._inbox.put(("ended",)),
        )
        self._courier, self._second_courier = (
            Courier(lambda take_in: self._inbox.put(("brought", take_in))) for _ in range(2)
        )
        self._surroundings = Surroundings(
            database, spec.name, self._retention, settings.keep_log, self._pool.limit
        )
        self._tasks: tuple[str, ...] = ()
        self._search = Search()
        self._wakes = 0
        self._alone_at = float("-inf")
        self._told_idle = False
        self._draining = False
        self._abort_at: float | None = None
        self._interrupts = Interrupts()
        self._unknown = UnknownClaims()
        self._outage = Outage(log, _FIRST_PAUSE, _LONGEST_PAUSE)
        self._talk_at = float("-inf")
        self._ended = 0
        # Whether these were handed in is not known: an earlier try may have done it.
        self._in_doubt: set[Execution] = set()
        self._gate = GateWatch()
        self._clock_watch = ClockWatch()

    def run(self) -> None:
        """Work until drained, or until nothing is due in burst mode."""
        self._load()
        self._board.beat_at = time.monotonic()
        announce("worker_start", None)
        threading.Thread(target=self._read_pipe, name="sched-pipe", daemon=True).start()
        while not self._is_done():
            self.turn()
        announce("worker_stop", None)
        self._send("done", self._ended)

    def turn(self) -> None:
        """Wait until there is something to do, and do it."""
        self._database.make_room(self._board)
        self._take_messages()
        now = self._board.beat_at = time.monotonic()
        self._interrupts.fire_due(now)
        self._talk(now)  # first: the database works while we do
        self._feed_pool(now)
        self._tell_supervisor()

    # Step 1: the user's code.

    def _load(self) -> None:
        folder = None if self._spec.schedules is None else Path(self._spec.schedules)
        files, faults = import_all(self._spec.imports, folder)
        for fault in faults:
            log.error("%s; its tasks are unknown to this worker, their jobs are held", fault)
        self._tasks = tuple(sorted(all_tasks()))
        hear_logging(self._spec.settings.keep_log)
        gc.freeze()  # what is loaded stays: looking for garbage in it took a quarter of the time
        self._send("ready", self._tasks, tuple(map(str, files)))

    # Step 2: the loop.

    def _read_pipe(self) -> None:
        while True:
            try:
                self._inbox.put(self._pipe.recv())
            except Exception:
                os._exit(1)  # the supervisor is gone, or not understood: nobody renews our leases

    def _take_messages(self) -> None:
        try:
            item = self._inbox.get(timeout=self._longest_wait())
            while True:
                self._handle(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _longest_wait(self) -> float:
        now = time.monotonic()
        times = [now + LONGEST_TURN, self._interrupts.next_at(), self._holdings.tell_at]
        if not self._courier.is_away:
            times.append(max(self._next_errand_at(now), self._talk_at))
        if (first := self._pool.first_offered()) is not None:
            times.append(now - self._holdings.age(first, now) + LONGEST_UNSTARTED)
        if self._abort_at is not None:
            times.append(self._abort_at if now < self._abort_at else self._abort_at + ABORT_GRACE)
        if not self._leases_are_fresh():
            times.append(now + STALE_PAUSE)
        return max(min(times) - now, 0.0)

    def _next_errand_at(self, now: float) -> float:
        """When there is something to send to the database."""
        if self._has_something_to_say(now):
            return now
        times = [self._unknown.look_at, self._gate.admit_at]
        if self._holdings.waiting:
            times.append(self._holdings.oldest_claim() + LONGEST_UNSTARTED)
        if now < self._search.claim_at:
            times.append(self._search.claim_at)
        return min(times)

    def _handle(self, item: Any) -> None:
        match item:
            case ("ended",):
                self._take_ended()
            case ("brought", take_in):
                take_in()
            case ("limited", execution):
                if execution in self._holdings.running:  # its end may have come first
                    self._interrupts.limit(execution)
            case ("wake",):
                self._hear_hint()
                self._told_idle = False
            case ("held", held):
                self._compare(held)
            case ("cancel", ids):
                self._cancel(ids)
            case ("drain",):
                log.debug("nothing new begins")
                self._draining = True
            case ("abort",):
                self._draining = True
                self._abort_at = time.monotonic() + ABORT_GRACE
                self._interrupt(self._holdings.running)

    def _hear_hint(self) -> None:
        """There may be new jobs."""
        self._wakes += 1
        self._search = self._search.woken()

    def _take_ended(self) -> None:
        ended = self._pool.take_ended()
        if not ended:
            return
        self._ended += len(ended)
        self._interrupts.forget(execution for execution, _ in ended)
        for execution, executed in ended:
            if execution.claimed.guard is not None:
                self._gate.ended.add(execution.claimed.guard)
            if self._holdings.end(execution, executed.finished) and executed.written:
                self._board.clear(self._holdings.settle([execution]))
        self._look_after_ends()

    def _look_after_ends(self) -> None:
        """They may have enqueued something, be due again themselves, or have been in the way of another."""
        if self._search.claim_at == NEVER and (self._spec.burst or not self._holdings.unfinished()):
            self._search = self._search.woken()

    def _feed_pool(self, now: float) -> None:
        """Offer what waits, the best first."""
        first = self._pool.first_offered()
        if first is not None:
            is_old = self._holdings.age(first, now) >= LONGEST_UNSTARTED
            if is_old or not self._may_begin(first) or self._holdings.is_better(first):
                self._withdraw()
            if is_old:
                self._holdings.give_back()
        if self._draining or not self._leases_are_fresh():
            return
        executions = [
            Execution(
                claimed,
                self._surroundings,
                entry=self._holdings.take_entry(),
                sent_at=self._holdings.sent_at(claimed),
            )
            for claimed in self._holdings.next_to_offer()
        ]
        self._holdings.place(executions)
        self._pool.offer(executions)

    def _withdraw(self) -> None:
        """What the pool has not begun waits again."""
        withdrawn = self._pool.withdraw()
        self._interrupts.forget(withdrawn)
        self._holdings.take_back(withdrawn)

    def _may_begin(self, execution: Execution) -> bool:
        """Whether this body may begin. Asked in every thread of the pool.

        Its claim must be young whatever was renewed meanwhile: an old one was slept through, and may
        have gone to others.
        """
        return not self._draining and self._is_trusted(
            min(self._board.renewed_at, execution.sent_at)
        )

    def _leases_are_fresh(self) -> bool:
        return self._is_trusted(self._board.renewed_at)

    def _is_trusted(self, renewed_at: float) -> bool:
        """After a renewal every lease lasts two thirds of its length at least; then we know nothing."""
        return boottime() - renewed_at < self._trusted_for

    # The exchange.

    def _has_something_to_say(self, now: float) -> bool:
        to_hand_in = self._holdings.finished or self._holdings.going_back or self._gate.ended
        return bool(to_hand_in) or self._overstayed(now) or self._room(now) > 0

    def _overstayed(self, now: float) -> bool:
        """Whether unstarted jobs must go back."""
        if not self._holdings.waiting:
            return False
        return (
            self._draining
            or not self._leases_are_fresh()
            or now - self._holdings.oldest_claim() >= LONGEST_UNSTARTED
        )

    def _room(self, now: float) -> int:
        if self._draining or now < self._search.claim_at or not self._leases_are_fresh():
            return 0
        room = self._holdings.room(self._pool.offered())
        if self._spec.max_jobs is not None:
            room = min(room, self._spec.max_jobs - self._ended - self._holdings.unfinished())
        return room

    def _talk(self, now: float) -> None:
        """Send the database what there is to say, unless something is under way."""
        if now < self._talk_at:
            return
        if self._is_worth_a_second(now):
            self._second_courier.send(self._exchange())
        if self._courier.is_away:
            return
        if unknown := self._unknown.due(now):
            self._courier.send(self._release_unknown(unknown, now))
        elif now >= self._gate.admit_at:
            self._courier.send(self._admit())
        elif self._has_something_to_say(now):
            if self._overstayed(now):
                if any(job.run_alone for job in self._holdings.waiting):
                    self._alone_at = now + ALONE_PAUSE
                self._holdings.give_back()
            self._courier.send(self._exchange(self._holdings.to_release(), self._order(now)))

    def _is_worth_a_second(self, now: float) -> bool:
        """Whether to hand in beside a claim. It takes a connection more, and SQLite has but one writer."""
        return (
            self._database.is_postgresql
            and not self._second_courier.is_away
            and len(self._holdings.finished) >= MANY_ENDED
            and (self._courier.is_away or self._room(now) > 0)
        )

    def _exchange(
        self, releases: Sequence[tuple[str, Sequence[int]]] = (), order: Order | None = None
    ) -> Errand[Reply]:
        """Hand in all that has ended; give back and claim what is asked for."""
        handed = self._holdings.hand_in()
        request = Request(tuple(handed.values()), releases, order, self._gate.take_ended())
        claimed_at, sent_at, ended, wakes = time.monotonic(), boottime(), self._ended, self._wakes

        def answered(reply: Reply) -> None:
            self._outage.is_over(boottime())
            self._settle(handed, request, reply)
            if order is not None:
                self._take_in(order, reply, claimed_at, sent_at)
                # The claim may have looked before what has come meanwhile.
                if self._wakes > wakes:
                    self._search = self._search.woken()
                elif self._ended > ended:
                    self._look_after_ends()
            # A sweep comes after the releases of its transaction, and has seen them.
            has_swept = reply.found is not None and reply.found.swept
            if (request.releases or reply.freed) and not has_swept:
                self._search = self._search.returned()

        def failed(error: Exception) -> None:
            self._gate.ended |= request.guards
            self._holdings.hand_in_again(handed)
            if isinstance(error, OutcomeUnknown):
                self._in_doubt.update(handed)
            self._pause_after(error, order)

        return Errand(partial(exchange, self._database, request, self._retention), answered, failed)

    def _order(self, now: float) -> Order | None:
        if self._room(now) <= 0:
            return None
        self._holdings.adapt(now)
        room = self._room(now)
        return Order(
            self._claimant,
            self._spec.band,
            new_token(),
            room,
            self._holdings.free_places(),
            self._search.lanes_at(now),
            lambda name: find_task(name) is not None,
            self._tasks,
            alone=now >= self._alone_at or not self._holdings.running,
            looks_at_gate=self._gate.may_look(now),
        )

    def _settle(self, handed: Mapping[Execution, Finished], request: Request, reply: Reply) -> None:
        """The database knows of these now."""
        lost = [
            each.job_id
            for execution, each in handed.items()
            if each.job_id not in reply.ours and execution not in self._in_doubt
        ]
        self._in_doubt.difference_update(handed)
        if lost:
            log.warning("%s lost to a rescue or an operator; the result is dropped", in_words(lost))
        if request.releases or any(each.verdict.state == "queued" for each in request.finished):
            wakeup.notify(self._database)  # they may be due sooner than anybody would look
            if request.order is None:
                self._hear_hint()
        self._board.clear(self._holdings.settle([*handed], request.releases))
        self._gate.handed_in(reply.freed)

    def _take_in(self, order: Order, reply: Reply, claimed_at: float, sent_at: float) -> None:
        self._gate.looked(reply.gate_due)
        if reply.claim_error is not None:
            self._pause_after(reply.claim_error, None)
        if reply.found is None:
            return
        self._holdings.add(order.lock_token, reply.claimed, claimed_at, sent_at)
        self._search = self._search.after(reply.found)
        if reply.found.gave_back:
            # Last attempts are not read ahead, and not to be asked for all the time.
            self._holdings.read_nothing_ahead()

    def _admit(self) -> Errand[Admission]:
        """Let through what has come to the gate, and what waited for a guard that is free now."""
        freed = frozenset(self._gate.freed)

        def answered(done: Admission) -> None:
            self._gate.admitted(freed, done, time.monotonic())
            self._search = self._search.returned()

        return Errand(
            lambda: admit(self._database, freed, self._tasks, watch=self._clock_watch),
            answered,
            self._admission_failed,
        )

    def _admission_failed(self, error: Exception) -> None:
        self._gate.failed(time.monotonic())
        if is_outage(error):
            self._pause_after(error, None)
        elif isinstance(error, ClockLeapt):
            log.warning("%s", error)
        else:
            log.error("admission failed, the next try is in %.0f s", FAILURE_PAUSE, exc_info=error)

    def _pause_after(self, error: Exception, order: Order | None) -> None:
        """The database is away: keep everything, try again later."""
        if isinstance(error, OutcomeUnknown) and order is not None:
            # This claim may have happened: its jobs never run, and go back when they show up.
            until = time.monotonic() + self._claimant.lease.total_seconds()
            self._unknown.add(order.lock_token, until)
        self._search = self._search.returned()
        self._outage.failed(error, boottime())
        self._talk_at = time.monotonic() + self._outage.pause

    def _release_unknown(self, tokens: Sequence[str], now: float) -> Errand[None]:
        """Give back what claims of unknown outcome may have taken."""

        def answered(_: None) -> None:
            self._search = self._search.returned()
            for lock_token in tokens:
                self._unknown.looked(lock_token, now)

        work = partial(give_back_all, self._database, tokens)
        return Errand(work, answered, partial(self._pause_after, order=None))

    # What the supervisor says of our claims, and what we tell it.

    def _compare(self, held: dict[str, frozenset[int]]) -> None:
        """Drop what is not ours any more; give back what is ours and nobody here knows of."""
        self._withdraw()  # so that what was lost does not begin
        lost_waiting, lost_running = self._holdings.compare(held)
        if lost_waiting:
            log.warning(
                "%s lost before the start", in_words([job_id for _, job_id in lost_waiting])
            )
        for execution in lost_running:
            execution.job.cancelled = True
        self._interrupt(lost_running)

    def _cancel(self, ids: Iterable[int]) -> None:
        cancelled = set(ids)
        for execution in self._holdings.running:
            if execution.claimed.id in cancelled and not execution.job.cancelled:
                execution.job.cancelled = True
                self._interrupts.ask(execution, time.monotonic() + self._interrupted_after)

    def _interrupt(self, executions: Iterable[Execution]) -> None:
        for execution in executions:
            execution.interruption.fire(JobInterrupted)

    def _tell_supervisor(self) -> None:
        idle = time.monotonic() < self._search.claim_at and not self._draining
        held, dropped = self._holdings.news(time.monotonic())
        if held or dropped or idle != self._told_idle:
            self._told_idle = idle
            self._send("claims", held, dropped, idle, len(self._holdings.running))

    def _send(self, *message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            os._exit(1)  # the supervisor is gone

    # Step 4: the end.

    def _is_done(self) -> bool:
        if self._abort_at is not None and time.monotonic() >= self._abort_at:
            self._leave_behind()
        is_waiting = self._courier.is_away or self._second_courier.is_away
        is_calm = self._holdings.is_empty() and not is_waiting
        if is_calm and (self._draining or not self._gate.has_work):
            if self._spec.max_jobs is not None and self._ended >= self._spec.max_jobs:
                return True
            return self._draining or (self._spec.burst and self._search.claim_at == NEVER)
        # Without a database there is nobody to tell: the leases will run out.
        return self._abort_at is not None and time.monotonic() >= self._abort_at + ABORT_GRACE

    def _leave_behind(self) -> None:
        """Write the end of what could not be interrupted; its thread ends with the process."""
        self._interrupts.forget_all()
        for execution in list(self._holdings.running):
            self._holdings.end(execution, execution.give_up())
