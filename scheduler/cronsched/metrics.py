"""Metrics for Prometheus, from the database: whichever process is asked says the same.

Labels are queues, states and the like; never a job, a task or an argument. Gauges come from one walk over the
jobs, counters from what has ended since the last scrape.
The text format is written here: a page of code, where the client library would be one more dependency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.ended import BOUNDS, Ended, Spread, ended_between
from cronqueue.overview import QueueStats, list_workers, queue_stats
from cronqueue.states import TERMINAL
from cronqueue.version import __version__

# A job's end is counted so much later: its transaction may have begun before another that committed first.
LAG = timedelta(seconds=10)
# What ended longer ago than this before a scrape is not counted: nobody was there to see it.
LONGEST_GAP = timedelta(minutes=10)
# A daemon tops up what is due at once; after this it does not.
REFILL_LATE_AFTER = timedelta(minutes=1)
# Each queue costs the reader some forty series. Further ones are summed up under OTHERS.
MOST_QUEUES = 200
OTHERS = "(others)"

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a value under labels; a histogram's lines have suffixes."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A name with what it means, and its lines."""

    name: str
    kind: Kind
    words: str
    samples: Sequence[Sample]


class Totals:
    """What has ended since this process was first asked: counters begin at zero with it."""

    def __init__(self) -> None:
        self._until: datetime | None = None
        self._jobs: Counter[tuple[str, str]] = Counter()
        self._wait: dict[str, Spread] = {}
        self._run: dict[str, Spread] = {}
        self._named: set[str] = set()

    def count(self, database: Database) -> None:
        """Add what has ended since the last time."""
        until = database.server_now() - LAG
        after = until if self._until is None else max(self._until, until - LONGEST_GAP)
        if after < until:
            for each in ended_between(database, after, until):
                self._add(each)
        self._until = until  # also where the database's clock went back: to go on from there

    def name_of(self, queue: str) -> str:
        """The label of a queue: its name, if it came among the first."""
        label = queue if queue in self._named or len(self._named) < MOST_QUEUES else OTHERS
        self._named.add(label)
        return label

    def metrics(self) -> Iterator[Metric]:
        """The counters."""
        yield Metric(
            "sched_jobs_ended_total",
            "counter",
            "Jobs that have ended, by the state in which they did.",
            [
                Sample(self._jobs[queue, state], {"queue": queue, "state": state})
                for queue in sorted(self._named)
                for state in TERMINAL
            ],
        )
        yield _histogram(
            "sched_job_wait_seconds",
            "From when a job was due to the start of its last attempt, of succeeded and failed ones.",
            self._wait,
        )
        yield _histogram(
            "sched_job_run_seconds",
            "How long the last attempt took, of succeeded and failed jobs.",
            self._run,
        )

    def _add(self, ended: Ended) -> None:
        queue = self.name_of(ended.queue)
        self._jobs[queue, ended.state] += ended.jobs
        for known, more in ((self._wait, ended.wait), (self._run, ended.run)):
            known[queue] = known.get(queue, Spread()) + more


def collect(database: Database, totals: Totals) -> list[Metric]:
    """All metrics at this moment. Raises what the database raises."""
    totals.count(database)
    return [
        *_constants(is_up=True),
        *_queues(database, totals),
        *totals.metrics(),
        *_processes(database),
        *_schedules(database),
    ]


def without_database() -> list[Metric]:
    """What is known when the database cannot be asked."""
    return list(_constants(is_up=False))


def exposition(metrics: Sequence[Metric]) -> str:
    """The text that Prometheus reads; of a metric without lines its name and meaning."""
    lines: list[str] = []
    for each in metrics:
        lines.append(f"# HELP {each.name} {_escaped(each.words)}")
        lines.append(f"# TYPE {each.name} {each.kind}")
        lines += [_line(each.name, sample) for sample in each.samples]
    return "\n".join(lines) + "\n"


_SCHEDULES = text("""
SELECT COUNT(*) AS active,
    COUNT(*) FILTER (WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > :now)) AS paused,
    COUNT(*) FILTER (WHERE refill_at < :edge) AS late,
    MIN(materialized_until) AS covered_until
FROM sched_schedules WHERE state = 'active'
""").columns(covered_until=Instant())
_FAULTS = text("SELECT COUNT(*) FROM sched_sources WHERE fault IS NOT NULL")


def _constants(*, is_up: bool) -> Iterator[Metric]:
    words = "1 if the database answers; without it all that comes from it is missing."
    yield Metric("sched_database_up", "gauge", words, [Sample(int(is_up))])
    yield Metric("sched_info", "gauge", "The version.", [Sample(1, {"version": __version__})])


def _queues(database: Database, totals: Totals) -> Iterator[Metric]:
    now = database.server_now()
    by_name: dict[str, list[QueueStats]] = {}
    for each in queue_stats(database):
        by_name.setdefault(totals.name_of(each.name), []).append(each)

    def per_queue(
        name: str, words: str, value: Callable[[QueueStats], float], join: Callable[..., float]
    ) -> Metric:
        samples = [
            Sample(join(value(each) for each in queues), {"queue": queue})
            for queue, queues in by_name.items()
        ]
        return Metric(name, "gauge", words, samples)

    states: dict[str, Callable[[QueueStats], int]] = {
        "queued": lambda each: each.due + each.later,
        "held": lambda each: sum(each.held.values()),
        "running": lambda each: each.running,
        "failed": lambda each: each.failed,
    }
    yield Metric(
        "sched_jobs",
        "gauge",
        "Jobs that are not done with, by state; failed ones stay until somebody deals with them.",
        [
            Sample(sum(map(count, queues)), {"queue": queue, "state": state})
            for queue, queues in by_name.items()
            for state, count in states.items()
        ],
    )
    held: Counter[tuple[str, str]] = Counter()
    for queue, queues in by_name.items():
        for each in queues:
            held.update({(queue, reason): jobs for reason, jobs in each.held.items()})
    yield Metric(
        "sched_jobs_held",
        "gauge",
        "Held jobs, by what they are held for.",
        [
            Sample(jobs, {"queue": queue, "reason": reason})
            for (queue, reason), jobs in sorted(held.items())
        ],
    )
    yield per_queue("sched_jobs_due", "Jobs that wait for a free worker.", lambda q: q.due, sum)
    yield per_queue(
        "sched_jobs_due_soon", "Jobs that will be due within two minutes.", lambda q: q.soon, sum
    )
    yield per_queue(
        "sched_oldest_due_age_seconds",
        "How long the job that has waited longest has been due; 0 if none is.",
        lambda q: max((now - q.oldest_due).total_seconds(), 0.0) if q.oldest_due else 0.0,
        max,
    )
    yield per_queue(
        "sched_queue_paused", "1 for a paused queue.", lambda q: int(q.paused is not None), max
    )


def _processes(database: Database) -> Iterator[Metric]:
    found = list_workers(database)
    workers = [each for each in found if each.kind == "worker"]
    alive = [each for each in workers if each.state != "silent"]
    states = Counter(each.state for each in workers)
    yield Metric(
        "sched_workers",
        "gauge",
        "Executor processes; a silent one has not been heard of for half a minute.",
        [Sample(states[each], {"state": each}) for each in ("running", "draining", "silent")],
    )
    yield Metric(
        "sched_places",
        "gauge",
        "How many jobs the live workers run at a time.",
        [Sample(sum(each.concurrency or 0 for each in alive))],
    )
    daemons = sum(each.kind == "daemon" and each.state != "silent" for each in found)
    yield Metric("sched_daemons", "gauge", "Live daemons.", [Sample(daemons)])
    skews = [abs(each.clock_skew or 0.0) for each in found if each.state != "silent"]
    yield Metric(
        "sched_clock_skew_seconds",
        "gauge",
        "How far the clock of a live process is from the database's, of all the farthest.",
        [Sample(max(skews, default=0.0))],
    )


def _schedules(database: Database) -> Iterator[Metric]:
    with database.snapshot() as connection:
        now = read_now(database, connection)
        times = {"edge": database.moment(now - REFILL_LATE_AFTER), "now": database.moment(now)}
        found = connection.execute(_SCHEDULES, times).one()
        faults = connection.execute(_FAULTS).scalar_one()
    yield Metric(
        "sched_schedules",
        "gauge",
        "Schedules in force, and how many of them are paused.",
        [
            Sample(found.active - found.paused, {"state": "active"}),
            Sample(found.paused, {"state": "paused"}),
        ],
    )
    yield Metric(
        "sched_schedules_late",
        "gauge",
        "Schedules whose next occurrences should have been written a minute ago.",
        [Sample(found.late)],
    )
    covered = [] if found.covered_until is None else [found.covered_until - now]
    yield Metric(
        "sched_covered_seconds",
        "gauge",
        "How far ahead every schedule is written.",
        [Sample(each.total_seconds()) for each in covered],
    )
    yield Metric(
        "sched_files_faulty", "gauge", "Schedule files with a fault.", [Sample(int(faults))]
    )


def _histogram(name: str, words: str, by_queue: Mapping[str, Spread]) -> Metric:
    samples: list[Sample] = []
    for queue, spread in sorted(by_queue.items()):
        bounds = [*map(str, BOUNDS), "+Inf"]
        for bound, count in zip(bounds, (*spread.within, spread.count), strict=True):
            samples.append(Sample(count, {"queue": queue, "le": bound}, "_bucket"))
        samples.append(Sample(spread.seconds, {"queue": queue}, "_sum"))
        samples.append(Sample(spread.count, {"queue": queue}, "_count"))
    return Metric(name, "histogram", words, samples)


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(
        f'{key}="{_escaped(value, quoted=True)}"' for key, value in sample.labels.items()
    )
    value = (
        f"{sample.value:.6f}".rstrip("0").rstrip(".")
        if isinstance(sample.value, float)
        else sample.value
    )
    return (
        f"{name}{sample.suffix}{{{labels}}} {value}" if labels else f"{name}{sample.suffix} {value}"
    )


def _escaped(words: str, *, quoted: bool = False) -> str:
    escaped = words.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped
