"""One job, from its claim to a verdict, as a list of steps.

    find the task · decode the arguments · before hooks · the body · the outcome · the verdict · hooks

A step that fails makes a failed attempt of this job alone. Nothing a task does gets out of here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from cronqueue import configuration, context, tracing
from cronqueue.claim import Claimed
from cronqueue.database import Database
from cronqueue.durations import format_duration, parse_duration
from cronqueue.errors import Discard, EncodingError, JobInterrupted, JobTimeout, Retry, Snooze
from cronqueue.finish import Finished, Retention
from cronqueue.hooks import announce, any_hooks, has_hooks, run_hooks
from cronqueue.interrupts import Interruption
from cronqueue.joblog import JobLog
from cronqueue.registry import HARD_TIMEOUT_GRACE, find_task, get_task
from cronqueue.retry import (
    NOTHING,
    SUCCEEDED,
    Discarded,
    Failed,
    Interrupted,
    Outcome,
    Snoozed,
    Succeeded,
    Verdict,
    backoff_seconds,
    decide,
    succeed,
)
from cronqueue.serialization import decode_call, encode_value
from cronqueue.tracebacks import describe_exception, sanitize

if TYPE_CHECKING:
    from cronqueue.jobsession import JobSession

log = logging.getLogger("cronqueue.jobs")

# Characters of an error in the log; the job keeps more of it.
_LONGEST_LOGGED = 500

# Asking the kernel once per job is dearer than all the rest that is told of a body.
_this_process = os.getpid()


def _remember_process() -> None:
    global _this_process
    _this_process = os.getpid()


os.register_at_fork(after_in_child=_remember_process)

_making = threading.Lock()

_LOST = "the job was lost to another worker; what it wrote was rolled back"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an execution needs besides the job."""

    database: Database
    worker: str
    retention: Retention
    #: What of a job's log is kept, unless its task says otherwise: "own", "all" or "off".
    keep_log: str = "own"
    #: Told when a job takes on a time limit of its own while it runs: seconds until its process ends.
    on_limit: Callable[[Execution, float], None] = lambda execution, seconds: None
    process: int = field(default_factory=os.getpid)


class Executed(NamedTuple):
    """An attempt that ended. `written` tells that the job's own session has committed the verdict."""

    finished: Finished
    written: bool = False


class Execution:
    """One attempt at one job.

    A queue's speed is made of what happens here for a job that does nothing, so that is: one object with
    slots, and nothing else before somebody asks for it.
    """

    __slots__ = (
        "_exception",
        "_job",
        "_result",
        "_span",
        "_started",
        "_surroundings",
        "claimed",
        "entry",
        "interruption",
        "sent_at",
        "soft_deadline",
        "task",
        "timeout",
    )

    _span: tracing.Run | None  # from the start of the run

    def __init__(
        self,
        claimed: Claimed,
        surroundings: Surroundings,
        *,
        entry: int = -1,
        sent_at: float = 0.0,
    ) -> None:
        self.claimed = claimed
        #: Its line of the board, and when the claim was sent (`clock.boottime`).
        self.entry, self.sent_at = entry, sent_at
        self.task = task = find_task(claimed.task)
        self.interruption = Interruption()
        self.timeout = claimed.timeout or (None if task is None else task.timeout_seconds)
        self.soft_deadline: float | None = None
        self._surroundings = surroundings
        self._job: context.RunningJob | None = None
        self._started = time.monotonic()
        self._result: Any = None
        self._exception: BaseException | None = None

    @property
    def job(self) -> context.RunningJob:
        """What the body sees of its job, made when somebody asks for it."""
        if self._job is None:
            with _making:
                self._job = self._job or self._make_job()
        return self._job

    def _make_job(self) -> context.RunningJob:
        deadline = None
        if self.timeout is not None:
            deadline = self.claimed.locked_at.astimezone(UTC) + timedelta(seconds=self.timeout)
        database = self._surroundings.database
        return context.RunningJob(self.claimed, database, deadline, self._limit, self._new_log())

    def _new_log(self) -> JobLog | None:
        wanted = None if self.task is None else self.task.keep_log
        if wanted is False or (wanted is None and self._surroundings.keep_log == "off"):
            return None
        keeps_all = wanted is True or self._surroundings.keep_log == "all"
        return JobLog(self.claimed, self._surroundings.database, keeps_all=keeps_all)

    def begin(self) -> None:
        """The body begins now."""
        self._started = time.monotonic()
        if self.timeout is not None:
            self.soft_deadline = self._started + self.timeout

    @property
    def is_async(self) -> bool:
        return self.task is not None and self.task.is_async

    @property
    def hard_timeout(self) -> float | None:
        """Seconds after which only the end of the process helps."""
        return None if self.timeout is None else self.timeout + HARD_TIMEOUT_GRACE.total_seconds()

    def run(self) -> Executed:
        """Run a plain function in this thread."""
        context.enter(self)
        self._span = tracing.begin_run(self.claimed)
        try:
            self.interruption.open_thread()
            try:
                outcome = self._body()
            finally:
                self.interruption.close()
        except BaseException as error:  # delivered between the body's end and close()
            self.interruption.close()
            self._end_forked_child(error)
            outcome = self._raised(error)
        self._end_forked_child(None)
        return self._conclude(outcome)

    async def run_async(self) -> Executed:
        """Run an `async def` in this event loop."""
        context.enter(self)
        self._span = tracing.begin_run(self.claimed)
        try:
            self.interruption.open_task()
            try:
                args, kwargs = self._prepare()
                self._result = await (self.task or get_task(self.claimed.task)).fn(*args, **kwargs)
                outcome: Outcome = Succeeded(_encoded(self._result))
            finally:
                self.interruption.close()
        except BaseException as error:  # CancelledError included
            self._end_forked_child(error)
            outcome = self._raised(error)
        self._end_forked_child(None)
        if self._job is None or (self._opened_session is None and not self._job.has_log):
            return self._conclude(outcome)
        return await asyncio.to_thread(self._conclude, outcome)

    def _end_forked_child(self, error: BaseException | None) -> None:
        """A child that the body forked comes out of it, too; but the job is its parent's."""
        if self._surroundings.process == _this_process:
            return
        with suppress(Exception):
            sys.stdout.flush()
        code = error.code or 0 if isinstance(error, SystemExit) else int(error is not None)
        os._exit(code if isinstance(code, int) else 1)

    def _body(self) -> Outcome:
        args, kwargs = self._prepare()
        self._result = (self.task or get_task(self.claimed.task)).fn(*args, **kwargs)
        return NOTHING if self._result is None else Succeeded(_encoded(self._result))

    def _prepare(self) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = decode_call(self.claimed.args_json)
        if has_hooks("before", self.claimed.task):
            run_hooks("before", self.claimed.task, self.job)
        return args, kwargs

    def _limit(self, seconds: float) -> None:
        self.soft_deadline = time.monotonic() + seconds
        self._surroundings.on_limit(self, seconds + HARD_TIMEOUT_GRACE.total_seconds())

    def _raised(self, error: BaseException) -> Outcome:
        """What an exception out of the body means."""
        self._exception = error
        try:
            return _outcome_of(error, self.interruption.fired)
        except Exception as fault:  # a Retry(delay="soon"): its text says what is wrong with it
            self._exception = fault
            return Failed(describe_exception(fault))

    @property
    def _opened_session(self) -> JobSession | None:
        return None if self._job is None else self._job.opened_session

    def _conclude(self, outcome: Outcome) -> Executed:
        written = False
        if self._job is not None and self._job.kept is not None:
            self._job.kept.end()
        if (session := self._opened_session) is not None:
            if isinstance(outcome, Succeeded):
                outcome, written = self._commit_session(session, outcome)
            else:
                _quietly(session.abandon)
        finished = self._finished(self._decide(outcome))
        if any_hooks():
            self._announce(outcome, finished.verdict)
        if finished.verdict is not SUCCEEDED or log.isEnabledFor(logging.INFO):
            _log_end(self.claimed, finished)
        if self._span is not None:
            error = None if isinstance(outcome, Snoozed) else self._exception
            self._span.end(error, detach=not self.is_async)
        context.leave()
        return Executed(finished, written)

    def _commit_session(self, session: JobSession, outcome: Succeeded) -> tuple[Outcome, bool]:
        try:
            if session.finish(self._finished(self._decide(outcome)), self._surroundings.retention):
                return outcome, True
            return self._raised(JobInterrupted(_LOST)), False
        except BaseException as error:
            # Also where the outcome is unknown: if it did commit, the fence refuses this verdict.
            return self._raised(error), False

    def _decide(self, outcome: Outcome) -> Verdict:
        if isinstance(outcome, Succeeded):
            return succeed(outcome)
        policy = (self.task or get_task(self.claimed.task)).policy
        attempt, jitter = self.claimed.attempt, random.random()
        try:
            return decide(
                outcome,
                attempt=attempt,
                max_attempts=self.claimed.max_attempts,
                policy=policy,
                backoff=policy.backoff or configuration.global_backoff(),
                jitter=jitter,
            )
        except Exception:  # a back-off function that fails must not lose the job
            log.exception(
                "[job %d] the back-off of %s failed; the default is used",
                self.claimed.id,
                self.claimed.task,
            )
            wait = timedelta(seconds=backoff_seconds(attempt, None, jitter))
            fallback = Failed(getattr(outcome, "error", ""), None, wait)
            return decide(
                fallback,
                attempt=attempt,
                max_attempts=self.claimed.max_attempts,
                policy=policy,
                backoff=None,
                jitter=jitter,
            )

    def give_up(self) -> Finished:
        """The end of a body that could not be interrupted."""
        outcome = Interrupted("the worker was stopped while the job ran")
        return self._finished(self._decide(outcome))

    def _finished(self, verdict: Verdict) -> Finished:
        claimed = self.claimed
        return Finished(
            claimed.id,
            claimed.lock_token,
            claimed.attempt,
            verdict,
            self._surroundings.worker,
            time.monotonic() - self._started,
        )

    def _announce(self, outcome: Outcome, verdict: Verdict) -> None:
        """Tell the hooks; the verdict stands already."""
        task = self.claimed.task
        if isinstance(outcome, Succeeded):
            announce("success", task, self.job, self._result)
        elif not isinstance(outcome, Snoozed):
            announce("error", task, self.job, self._exception)
            if verdict.state == "failed":
                announce("failure", task, self.job, self._exception)
        announce("after", task, self.job)


def _outcome_of(error: BaseException, fired: type[BaseException] | None) -> Outcome:
    if isinstance(error, Retry):
        delay = None if error.delay is None else parse_duration(error.delay)
        return Failed(describe_exception(error), None, delay)
    if isinstance(error, Snooze):
        return Snoozed(parse_duration(error.delay))
    if isinstance(error, Discard):
        return Discarded(sanitize(str(error.reason), 1000), describe_exception(error))
    if isinstance(error, _ResultRefused):
        return Discarded("its result cannot be stored", describe_exception(error))
    if isinstance(error, JobInterrupted) or (
        isinstance(error, asyncio.CancelledError) and fired is JobInterrupted
    ):
        return Interrupted(describe_exception(error))
    if isinstance(error, asyncio.CancelledError) and fired is JobTimeout:
        timeout = JobTimeout()
        timeout.__cause__ = error
        return Failed(describe_exception(timeout), timeout)
    return Failed(describe_exception(error), error)


class _ResultRefused(EncodingError):
    """The task did its work; trying again would not make its result storable."""


def _encoded(result: Any) -> str | None:
    if result is None:
        return None
    try:
        return encode_value(result, "result")
    except EncodingError as error:
        raise _ResultRefused(str(error)) from None


def _quietly(close: Any) -> None:
    try:
        close()
    except Exception:
        log.debug("closing a job's session failed", exc_info=True)


def _log_end(claimed: Claimed, finished: Finished) -> None:
    verdict = finished.verdict
    if verdict.state == "succeeded":
        if log.isEnabledFor(logging.INFO):
            log.info(
                "[job %d] %s succeeded in %.3f s",
                claimed.id,
                claimed.task,
                finished.seconds,
                extra={"seconds": finished.seconds},
            )
        return
    last_line = (verdict.error or "").strip().rpartition("\n")[2][:_LONGEST_LOGGED]
    if verdict.state == "failed":
        log.error(
            "[job %d] %s failed for good (%s): %s",
            claimed.id,
            claimed.task,
            verdict.reason,
            last_line,
        )
    elif verdict.error is None:
        log.info("[job %d] %s snoozed for %s", claimed.id, claimed.task, _wait(verdict))
    elif verdict.attempt_outcome == "interrupted":
        log.warning(
            "[job %d] %s was interrupted in attempt %d of %d",
            claimed.id, claimed.task, claimed.attempt, claimed.max_attempts,
        )  # fmt: skip
    else:
        log.warning(
            "[job %d] %s failed, attempt %d of %d, again in %s: %s",
            claimed.id, claimed.task, claimed.attempt, claimed.max_attempts, _wait(verdict), last_line,
        )  # fmt: skip


def _wait(verdict: Verdict) -> str:
    return format_duration(timedelta(seconds=round(verdict.delay or 0, 1)))
