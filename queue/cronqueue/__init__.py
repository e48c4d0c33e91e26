"""cronqueue: jobs on the SQL database that you already have.

from cronqueue import job

@job
def welcome(user_id: int) -> None: ...

welcome.enqueue(7)
"""

from cronqueue.configuration import configure
from cronqueue.context import current_job
from cronqueue.enqueueing import enqueue, enqueue_many
from cronqueue.errors import Discard, Retry, Snooze
from cronqueue.hooks import hook
from cronqueue.models import Job
from cronqueue.registry import Call, Task, job
from cronqueue.serialization import register_type
from cronqueue.version import __version__
from cronqueue.worker import Worker

__all__ = [
    "Call",
    "Discard",
    "Job",
    "Retry",
    "Snooze",
    "Task",
    "Worker",
    "__version__",
    "configure",
    "current_job",
    "enqueue",
    "enqueue_many",
    "hook",
    "job",
    "register_type",
]
