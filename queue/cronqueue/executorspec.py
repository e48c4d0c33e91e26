"""What a supervisor tells a new executor."""

from __future__ import annotations

from dataclasses import dataclass

from cronqueue.claim import Band
from cronqueue.settings import Settings


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
    """Who it is, what it loads, what it takes, when it ends. Crosses over to its process as a whole."""

    worker_id: str
    name: str
    database_url: str
    settings: Settings
    schedules: str | None
    imports: tuple[str, ...]
    burst: bool
    max_jobs: int | None
    board_path: str
    board_entries: int
    log_level: int
    log_jobs: int

    @property
    def band(self) -> Band:
        settings = self.settings
        return Band(
            settings.queues, settings.exclude_queues, settings.min_priority, settings.max_priority
        )
