"""The correspondence of an executor with the database: what it says there, and what becomes of the answers.

    talk: hand in what ended · give back what overstays · claim · admit · ask for claims of unknown outcome

A courier takes it there, and the executor goes on meanwhile. All of this happens in the executor's main
thread but for the errands themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from cronqueue import wakeup
from cronqueue.admission import Admission, admit
from cronqueue.board import Board
from cronqueue.claim import Claimant, new_token
from cronqueue.clock import boottime
from cronqueue.clockwatch import ClockWatch
from cronqueue.courier import Courier, Errand
from cronqueue.database import Database, is_outage
from cronqueue.errors import ClockLeapt, OutcomeUnknown
from cronqueue.exchange import Order, Reply, Request, exchange, give_back_all, in_words
from cronqueue.execution import Execution
from cronqueue.executorspec import ExecutorSpec
from cronqueue.finish import Finished, Retention
from cronqueue.gatewatch import FAILURE_PAUSE, GateWatch
from cronqueue.holdings import Holdings
from cronqueue.outage import Outage
from cronqueue.registry import find_task
from cronqueue.search import NEVER, Search
from cronqueue.unknownclaims import UnknownClaims

log = logging.getLogger("cronqueue.worker")

# A claimed job that could not start in this time goes back: somebody else may have a place for it.
LONGEST_UNSTARTED = 0.5
# Nor does the next one that must run alone come for so long: the free places would wait with it.
ALONE_PAUSE = 10.0
# So many jobs that ended while a claim is under way are handed in beside it. With fewer, executors that
# share the CPUs get in each other's way; with none the quickest jobs take an eighth longer.
MANY_ENDED = 200
# Seconds. A few statements, each of which has its answer in SHORT or is given up, take less.
STUCK_AFTER = 60.0
# Between tries while the database is away. Work goes on this much later than it could, at worst.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class Correspondence:
    """`offered` tells how many jobs the pool has not begun, `is_open` whether any may begin; `arrived` is
    given, in another thread, what is then to be called in the executor's."""

    def __init__(
        self,
        spec: ExecutorSpec,
        database: Database,
        retention: Retention,
        holdings: Holdings,
        board: Board,
        *,
        offered: Callable[[], int],
        is_open: Callable[[], bool],
        arrived: Callable[[Callable[[], None]], None],
    ) -> None:
        #: The names of the tasks that are known here.
        self.tasks: tuple[str, ...] = ()
        #: So many ended jobs are handed in beside a claim that is under way; None: never.
        self.many_ended = MANY_ENDED if database.is_postgresql else None
        self._spec = spec
        self._database = database
        self._retention = retention
        self._holdings = holdings
        self._board = board
        self._offered = offered
        self._is_open = is_open
        self._claimant = Claimant(spec.worker_id, spec.name, spec.settings.lease)
        self._courier, self._second_courier = Courier(arrived), Courier(arrived)
        self._search = Search()
        self._wakes = 0
        self._alone_at = float("-inf")
        self._unknown = UnknownClaims()
        self._outage = Outage(log, _FIRST_PAUSE, _LONGEST_PAUSE)
        self._talk_at = float("-inf")
        # Whether these were handed in is not known: an earlier try may have done it.
        self._in_doubt: set[Execution] = set()
        self._gate = GateWatch()
        self._has_just_admitted = False
        self._clock_watch = ClockWatch()

    @property
    def awaits_answer(self) -> bool:
        """Whether something is under way."""
        return self._courier.is_away or self._second_courier.is_away

    def is_stuck(self, now: float) -> bool:
        """Whether something is under way for longer than any answer is waited for."""
        couriers = (self._courier, self._second_courier)
        return any(each.is_away and now - each.sent_at > STUCK_AFTER for each in couriers)

    @property
    def claims_at(self) -> float:
        """When to claim next, in monotonic seconds: NEVER while nothing is known to wait."""
        return self._search.claim_at

    @property
    def may_let_in(self) -> bool:
        """Whether what has ended may let others through the gate."""
        return self._gate.has_work

    def ended(self, executions: Sequence[Execution]) -> None:
        """Bodies have ended; their verdicts are in our hands."""
        for execution in executions:
            if execution.claimed.guard is not None:
                self._gate.ended.add(execution.claimed.guard)
        self._look_after_ends()

    def talk(self, now: float) -> None:
        """Send the database what there is to say, unless something is under way."""
        if now < self._talk_at:
            return
        if self._is_worth_a_second(now):
            self._second_courier.send(self._exchange(is_second=True), now)
        if self._courier.is_away:
            return
        if unknown := self._unknown.due(now):
            self._courier.send(self._release_unknown(unknown, now), now)
        elif now >= self._admit_at() and not (self._has_just_admitted and self._must_hand_in(now)):
            self._has_just_admitted = True
            self._courier.send(self._admit(), now)
        elif self._has_something_to_say(now):
            self._has_just_admitted = False
            if self._overstayed(now):
                if any(job.run_alone for job in self._holdings.waiting):
                    self._alone_at = now + ALONE_PAUSE
                self._holdings.give_back()
            self._courier.send(self._exchange(self._holdings.to_release(), self._order(now)), now)

    def next_at(self, now: float) -> float:
        """When there is something to say; infinity while an answer is awaited."""
        if self._courier.is_away:
            return float("inf")
        if self._has_something_to_say(now):
            return max(now, self._talk_at)
        times = [self._unknown.look_at, self._admit_at()]
        if self._holdings.waiting:
            times.append(self._holdings.oldest_claim() + LONGEST_UNSTARTED)
        if now < self._search.claim_at:
            times.append(self._search.claim_at)
        return max(min(times), self._talk_at)

    def hear_hint(self) -> None:
        """There may be new jobs."""
        self._wakes += 1
        self._search = self._search.woken()

    def _look_after_ends(self) -> None:
        """They may have enqueued something, be due again themselves, or have been in the way of another."""
        if self._search.claim_at == NEVER and (self._spec.burst or not self._holdings.unfinished()):
            self._search = self._search.woken()

    def _has_something_to_say(self, now: float) -> bool:
        return self._must_hand_in(now) or self._room(now) > 0

    def _must_hand_in(self, now: float) -> bool:
        to_hand_in = self._holdings.finished or self._holdings.going_back or self._gate.ended
        return bool(to_hand_in) or self._overstayed(now)

    def _admit_at(self) -> float:
        """When to let others through the gate; whoever begins nothing leaves it to those who do."""
        return self._gate.admit_at if self._is_open() else float("inf")

    def _overstayed(self, now: float) -> bool:
        """Whether unstarted jobs must go back."""
        if not self._holdings.waiting:
            return False
        return not self._is_open() or now - self._holdings.oldest_claim() >= LONGEST_UNSTARTED

    def _room(self, now: float) -> int:
        if now < self._search.claim_at or not self._is_open():
            return 0
        room = self._holdings.room(self._offered())
        if self._spec.max_jobs is not None:
            room = min(
                room, self._spec.max_jobs - self._holdings.ended - self._holdings.unfinished()
            )
        return room

    def _is_worth_a_second(self, now: float) -> bool:
        """Whether to hand in beside a claim. It takes a connection more, and SQLite has but one writer."""
        is_worth = (
            self.many_ended is not None
            and len(self._holdings.finished) >= self.many_ended
            and not self._second_courier.is_away
            and (self._courier.is_away or self._room(now) > 0)
        )
        return is_worth and not self._database.crowding.is_on() and self._has_second_courier()

    def _has_second_courier(self) -> bool:
        try:
            self._second_courier.start()
        except RuntimeError:  # no thread can be had
            self.many_ended = None
        return self.many_ended is not None

    def _exchange(
        self,
        releases: Sequence[tuple[str, Sequence[int]]] = (),
        order: Order | None = None,
        *,
        is_second: bool = False,
    ) -> Errand[Reply]:
        """Hand in all that has ended; give back and claim what is asked for."""
        handed = self._holdings.hand_in()
        request = Request(tuple(handed.values()), releases, order, self._gate.take_ended())
        sent_at, ended, wakes = boottime(), self._holdings.ended, self._wakes

        def answered(reply: Reply) -> None:
            self._outage.is_over(boottime())
            self._settle(handed, request, reply)
            if order is not None:
                self._take_in(order, reply, sent_at)
                # The claim may have looked before what has come meanwhile.
                if self._wakes > wakes:
                    self._search = self._search.woken()
                elif self._holdings.ended > ended:
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
            if is_second and self._database.crowding.is_on():
                self.many_ended = None  # the server has no second connection for us: one is enough
            else:
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
            self.tasks,
            alone=now >= self._alone_at or not self._holdings.unfinished(),
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
                self.hear_hint()
        self._board.clear(self._holdings.settle([*handed], request.releases))
        self._gate.handed_in(reply.freed)

    def _take_in(self, order: Order, reply: Reply, sent_at: float) -> None:
        self._gate.looked(reply.gate_due)
        if reply.claim_error is not None:
            self._pause_after(reply.claim_error, None)
        if reply.found is None:
            return
        self._holdings.add(order.lock_token, reply.claimed, time.monotonic(), sent_at)
        self._search = self._search.after(reply.found)
        if reply.found.gave_back:
            # Last attempts are not read ahead, and not to be asked for all the time.
            self._holdings.read_nothing_ahead()

    def _admit(self) -> Errand[Admission]:
        """Let through what has come to the gate, and what waited for a guard that is free now."""
        freed = self._gate.take_freed()

        def answered(done: Admission) -> None:
            self._gate.admitted(done, time.monotonic())
            self._search = self._search.returned()

        return Errand(
            lambda: admit(self._database, freed, self.tasks, watch=self._clock_watch),
            answered,
            partial(self._admission_failed, freed),
        )

    def _admission_failed(self, freed: frozenset[str], error: Exception) -> None:
        self._gate.failed(freed, time.monotonic())
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
