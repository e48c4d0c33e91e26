"""What a supervisor tells a new executor."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def specs_of(template: ExecutorSpec) -> list[ExecutorSpec]:
    """The executors of a worker: those of its pools, and the general ones where it has any.

    They share its `max_jobs`; one whose share is nothing is left out.
    """
    settings = template.settings
    general = settings.processes if settings.has_general_executors else 0
    rest = tuple(each for each in settings.queues if each not in dict(settings.pools))
    chosen = [replace(settings, queues=rest, pools=()) for _ in range(general)]
    chosen += [
        replace(settings, queues=(queue,), exclude_queues=(), concurrency=places, pools=())
        for queue, places in settings.pools
    ]
    shares: list[int | None] = [None] * len(chosen)
    if template.max_jobs is not None:
        whole, over = divmod(template.max_jobs, len(chosen))
        shares = [whole + (number < over) for number in range(len(chosen))]
    return [
        replace(template, settings=each, max_jobs=share, board_entries=board_entries_of(each))
        for each, share in zip(chosen, shares, strict=True)
        if share != 0
    ]


def board_entries_of(settings: Settings) -> int:
    """Room for what runs, the buffer behind it, and what ended while both were claimed."""
    return settings.concurrency + 3 * settings.read_ahead


def in_words(settings: Settings) -> str:
    """How many places, and for which jobs."""
    parts = [f"pool {queue} with {_places(places)}" for queue, places in settings.pools]
    if settings.has_general_executors and settings.processes > 1:
        parts.append(f"{settings.processes} executors with {_places(settings.concurrency)} each")
    elif settings.has_general_executors:
        parts.append(f"1 executor with {_places(settings.concurrency)}")
    if settings.queues:
        parts.append(f"queues {', '.join(settings.queues)}")
    if settings.exclude_queues:
        parts.append(f"all queues but {', '.join(settings.exclude_queues)}")
    if settings.min_priority is not None:
        parts.append(f"priority {settings.min_priority} and higher")
    if settings.max_priority is not None:
        parts.append(f"priority {settings.max_priority} and lower")
    return "; ".join(parts)


def _places(count: int) -> str:
    return f"{count} place{'s' if count > 1 else ''}"
