"""The states of a job. A module of its own, so that the command's help can name them without SQLAlchemy.

queued   waits for its `run_at`, then for a free worker
held     parked, `held_reason` says why
running  claimed by a worker
"""

STATES = ("queued", "held", "running", "succeeded", "failed", "cancelled", "skipped")
TERMINAL = ("succeeded", "failed", "cancelled", "skipped")
HELD_REASONS = ("paused", "unknown_task", "overlap", "limit", "dependency")
