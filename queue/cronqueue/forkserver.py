"""Loaded by the process from which executors are forked, before it forks any.

Signals to all processes of a service (a terminal's, a service manager's) reach that process too. Were it
to end by them, its executors would be killed in the middle of their jobs. It ends with its supervisor, and
so do they: each of them holds a line that keeps it alive, and an executor may be unable to look at anything.
"""

from cronqueue.executorprocess import run_executor
from cronqueue.processes import end_with_parent, ignore_signals

__all__ = ["run_executor"]

ignore_signals()
end_with_parent()
