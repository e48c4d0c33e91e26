"""Every exception that cronqueue raises, and the three a task raises to steer its own job.

CronqueueError
├── ConfigurationError      a setting, file or flag that cannot be used
├── DatabaseUnreachable     nobody answers at the database's address, or it refuses us
├── SchemaMismatch          the tables are missing, too old or too new for this release
├── DefinitionError         a task or schedule that is declared wrongly
├── ArgumentError           arguments that do not fit the task's signature
├── EncodingError           a value that JSON and our tagged types cannot carry
├── DecodingError           a stored value that does not read back
├── RunAtError              a time that cannot be a job's `run_at`
├── UnknownTask             a name that no imported module registers
├── KeyTaken                another unfinished job holds the key
├── StateError              the job is not in a state that allows this
├── WaitTimeout             `wait()` ended before the job did
├── NoCurrentJob            `current_job()` outside a running job
├── JobTimeout              raised inside a task that ran past its `timeout`
└── JobInterrupted          raised inside a task that must end: cancelled, or its worker stops
"""

from __future__ import annotations

from datetime import timedelta


class CronqueueError(Exception):
    """The base of all errors of this package; its text is meant to be shown as it is."""


class ConfigurationError(CronqueueError):
    """A setting, file or flag that cannot be used; the text names it and the remedy."""


class DatabaseUnreachable(CronqueueError):
    """The database does not answer, or refuses the connection."""


class OutcomeUnknown(CronqueueError):
    """The connection broke while a transaction committed: it may have happened, or not."""


class SchemaMismatch(CronqueueError):
    """The tables are missing, older than this release needs, or newer than it knows."""


class DefinitionError(CronqueueError, ValueError):
    """A task or schedule is declared wrongly."""


class ArgumentError(CronqueueError, TypeError):
    """The arguments of a job do not fit the signature of its task."""


class EncodingError(CronqueueError, ValueError):
    """A value cannot be stored; the text gives its place, such as `args[0]["when"]`."""


class DecodingError(CronqueueError, ValueError):
    """A stored value does not read back: written by hand, or by a release that knew more types."""


class RunAtError(CronqueueError, ValueError):
    """A time that cannot be used as `run_at`, `delay` or `expires`."""


class UnknownTask(CronqueueError, LookupError):
    """No imported module registers a task of this name."""


class ClockLeapt(CronqueueError):
    """The database's clock has leapt ahead, and is not believed yet."""

    def __init__(self, leap: timedelta) -> None:
        super().__init__(
            f"the database's clock has leapt ahead by {leap}: what is due by it waits until that has lasted"
            " for a while"
        )
        self.leap = leap


class KeyTaken(CronqueueError):
    """Another unfinished job holds the key."""

    def __init__(self, key: str, holder: int) -> None:
        super().__init__(f"key {key!r} is held by job {holder}")
        self.key = key
        self.holder = holder


class StateError(CronqueueError):
    """The job's state does not allow this."""


class WaitTimeout(CronqueueError, TimeoutError):
    """The job did not end within the time given to `wait()`."""


class NoCurrentJob(CronqueueError, LookupError):
    """`current_job()` was called where no job runs."""


class JobTimeout(CronqueueError, TimeoutError):
    """Raised inside a task that ran longer than its `timeout`; counts as a failed attempt."""

    def __init__(self, message: str = "the task ran longer than its timeout") -> None:
        super().__init__(message)


class JobInterrupted(CronqueueError):
    """Raised inside a task that must end now: it was cancelled, or its worker shuts down."""

    def __init__(self, message: str = "the job was cancelled, or its worker shuts down") -> None:
        super().__init__(message)


class Retry(Exception):
    """Raise in a task: this attempt failed; try again after `delay` instead of the back-off."""

    def __init__(self, reason: str = "", *, delay: timedelta | float | str | None = None) -> None:
        super().__init__(reason or "retry requested")
        self.reason = reason
        self.delay = delay


class Snooze(Exception):
    """Raise in a task: not now, run me again after `delay`; spends no attempt."""

    def __init__(self, delay: timedelta | float | str) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay = delay


class Discard(Exception):
    """Raise in a task: this job can never succeed; fail it now, without further attempts."""

    def __init__(self, reason: str = "discarded by the task") -> None:
        super().__init__(reason)
        self.reason = reason
