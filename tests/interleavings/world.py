"""The rows on which two transactions meet: something of every state, put back before each race.

What happens to a job is written down by a trigger, so that a change which is none of those drawn in the
state machine is seen even if the last row looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text

from cronqueue.admission import admit
from cronqueue.claim import Claimant, Claimed
from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.models import Base
from cronqueue.operations import pause_queue
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.ledger_audit import audit
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.materializer import top_up
from cronsched.pausing import pause
from cronsched.reconcile import apply
from cronsched.triggers import Every
from job_rows import NOW, WORKER, add, claim_due, execute, hand_in

SETTINGS = Settings(horizon=timedelta(hours=3))
HOUR = timedelta(hours=1)
# When the races take place; the two hours before it are played first.
AT = NOW + 2 * HOUR
ALIVE = Claimant("alive", "alive", timedelta(seconds=30))
DEAD = Claimant("dead", "dead", timedelta(seconds=30))
OPEN, STRICT, LATEST, RESTING = "open", "strict", "latest", "resting"

# From the diagram of the states; leaving and coming back within one statement is a change too.
DRAWN = {
    ("queued", "running"),
    ("queued", "held"),
    ("queued", "cancelled"),
    ("queued", "skipped"),
    ("queued", "failed"),  # expired after a try
    ("held", "queued"),
    ("held", "running"),
    ("held", "cancelled"),
    ("held", "skipped"),
    ("held", "failed"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "queued"),
    ("running", "held"),  # its task is unknown there
    ("failed", "queued"),
    ("cancelled", "queued"),
    ("skipped", "queued"),
    ("cancelled", "held"),  # revived while its schedule is paused
    ("skipped", "held"),
    ("queued", "deleted"),
    ("held", "deleted"),
    ("succeeded", "deleted"),
    ("failed", "deleted"),
    ("cancelled", "deleted"),
    ("skipped", "deleted"),
}
_TABLES = [table.name for table in Base.metadata.sorted_tables]
_WATCH = """
CREATE SCHEMA seed;
CREATE TABLE changes (n bigserial, job_id bigint, before text, after text, claims_before bigint,
    claims_after bigint, token_before text, token_after text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO changes (job_id, before, after, claims_before, claims_after, token_before, token_after)
    VALUES (old.id, old.state, new.state, old.claims, new.claims, old.lock_token, new.lock_token);
    RETURN NULL; END $$;
CREATE FUNCTION watch_deletions() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO changes (job_id, before, after, claims_before, claims_after)
    VALUES (old.id, old.state, 'deleted', old.claims, old.claims);
    RETURN NULL; END $$;
CREATE TRIGGER watch_deletions AFTER DELETE ON sched_jobs FOR EACH ROW EXECUTE FUNCTION watch_deletions();
CREATE TRIGGER watch AFTER UPDATE ON sched_jobs FOR EACH ROW EXECUTE FUNCTION watch();
"""


@dataclass
class World:
    """One database. `claimed`: what the worker that lives holds; `lost`: what the dead one held."""

    database: Database
    clock: ManualClock
    claimed: list[Claimed] = field(default_factory=list)
    lost: list[Claimed] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    seeded: frozenset[int] = frozenset()

    def restore(self) -> None:
        """All rows as they were."""
        execute(self.database, _restoring())

    def jobs(self) -> list[Row[Any]]:
        return self.read("SELECT * FROM sched_jobs ORDER BY id")

    def read(self, statement: str) -> list[Row[Any]]:
        with self.database.snapshot() as connection:
            return list(connection.execute(text(statement)))


def definitions(**changes: Any) -> Iterator[Definition]:
    """Schedules with each way to go to the gate, and one that is paused."""
    for name, every, overlap, catch_up in (
        (OPEN, 1200, "allow", "all"),
        (STRICT, 1800, "queue_all", "all"),
        (LATEST, 1200, "skip", "latest"),
        (RESTING, 3600, "queue_one", "all"),
    ):
        yield Definition(
            name=name,
            task="work",
            trigger=Every(changes.get("every", every)),
            source="a.py",
            overlap=overlap,  # type: ignore[arg-type]
            catch_up=catch_up,  # type: ignore[arg-type]
            priority=changes.get("priority", 0),
        )


def manifest_of(declared: Iterator[Definition] | tuple[Definition, ...]) -> Manifest:
    """As the folder's file would declare them."""
    return make_manifest(declared, (), [SourceFile("a.py", "files/a.py", "hash")])


def make_world(database: Database, clock: ManualClock) -> World:
    """Two hours of an installation's life."""
    world = World(database, clock)
    execute(database, _WATCH)
    clock.time = AT - 2 * HOUR
    apply(database, manifest_of(definitions()), SETTINGS)
    pause(database, RESTING, actor="me", until=AT - timedelta(minutes=1))
    clock.time = AT - HOUR
    _past(world)
    clock.time = AT - timedelta(seconds=65)
    admit(database)
    world.lost = claim_due(database, 3, claimant=DEAD, lock_token="token-of-the-dead")
    clock.time = AT - timedelta(seconds=15)
    _present(world)
    world.claimed = claim_due(database, 4, claimant=ALIVE, lock_token="token-of-the-living")
    clock.time = AT
    _waiting(world)
    for name in _TABLES:
        execute(database, f"CREATE TABLE seed.{name} AS TABLE {name}")
    world.seeded = frozenset(job.id for job in world.jobs())
    assert audit(database, AT - 10 * HOUR, AT + 10 * HOUR).findings == ()
    return world


def _past(world: World) -> None:
    """What has ended in each way."""
    database = world.database
    for state in ("succeeded", "failed", "cancelled", "skipped"):
        values = {"state": state, "finished_at": world.clock.time, "run_at": world.clock.time}
        world.ids[state] = add(database, **values, key=f"key of {state}")
    admit(database)
    jobs = claim_due(database, 2, claimant=WORKER)
    hand_in(database, jobs[:1])
    hand_in(database, jobs[1:], Verdict("failed", error="no", attempt_outcome="failed"))


def _present(world: World) -> None:
    database, moment = world.database, world.clock.time
    for name in ("one", "two", "three", "four"):
        add(database, run_at=moment, priority=50, key=f"key of {name}", unique_key=f"key of {name}")
    admit(database)


def _waiting(world: World) -> None:
    """What is due now, early, parked, too late or claimed by its key."""
    database, now = world.database, world.clock.time
    pause_queue(database, "mail", actor="me")
    kinds: dict[str, dict[str, Any]] = {
        "due": {},
        "keyed": {"key": "k", "unique_key": "k"},
        "starts": {"key": "s", "unique_key": "s", "key_until": "start"},
        "mail": {"queue": "mail", "priority": 5},
        "early": {"run_at": now + HOUR},
        "unknown": {"state": "held", "held_reason": "unknown_task", "task": "foreign"},
        "late": {"expires_at": now - timedelta(seconds=1)},
    }
    for name, values in kinds.items():
        world.ids[name] = add(database, **{"run_at": now - timedelta(seconds=1)} | values)


def _restoring() -> str:
    # Past the triggers: this is no change of a job's.
    parts = ["SET LOCAL session_replication_role = replica", "DELETE FROM changes"]
    for name in _TABLES:
        parts += [f"DELETE FROM {name}", f"INSERT INTO {name} SELECT * FROM seed.{name}"]
    return "; ".join(parts)


def faults(world: World, allows_deletion: bool) -> Iterator[str]:
    """Everything that is not as it must be, after both have ended."""
    yield from _of_changes(world)
    rows = world.jobs()
    for row in rows:
        yield from _of_row(row)
    left = {row.id for row in rows}
    if not allows_deletion and not world.seeded <= left:
        yield f"jobs are gone: {sorted(world.seeded - left)}"
    for finding in audit(world.database, AT - 10 * HOUR, AT + 10 * HOUR).findings:
        yield f"audit: {finding}"
    for row in world.read("SELECT * FROM sched_ledger WHERE verdict LIKE 'lost%'"):
        yield f"ledger: {row}"
    yield from _stuck(world)


def _of_changes(world: World) -> Iterator[str]:
    for row in world.read("SELECT * FROM changes ORDER BY n"):
        if row.before != row.after and (row.before, row.after) not in DRAWN:
            yield f"no such change: {row}"
        if row.claims_after - row.claims_before != int(
            row.token_after not in (None, row.token_before)
        ):
            yield f"claims do not count the claims: {row}"


def _of_row(row: Row[Any]) -> Iterator[str]:
    ended = row.state in ("succeeded", "failed", "cancelled", "skipped")
    if ended and (row.unique_key is not None or row.slot is not None or row.finished_at is None):
        yield f"ended, and holds something: {row}"
    waits_with_key = row.state in ("queued", "held") and row.key and row.key_until != "start"
    if waits_with_key and row.unique_key != row.key:
        yield f"waits without its key: {row}"
    if row.state == "running" and row.guard not in (None, OPEN) and row.slot is None:
        yield f"runs without its guard: {row}"
    if row.slot is not None and row.gated:
        yield f"holds its guard, and waits for it: {row}"
    if row.attempts < 0 or row.attempts > row.claims:
        yield f"more attempts than claims: {row}"


def _stuck(world: World) -> Iterator[str]:
    """Once it is calm, all that is due can be worked off."""
    database = world.database
    execute(
        database,
        "UPDATE sched_queues SET paused_at = NULL, paused_until = NULL; DELETE FROM changes",
    )
    top_up(database, SETTINGS)
    for _ in range(12):
        admit(database, (), ["foreign"])
        claimed = claim_due(database, 100)
        hand_in(database, claimed)
        if not claimed:
            break
    due = (
        "SELECT id, state, held_reason, guard, gated, slot FROM sched_jobs WHERE run_at <= :now AND"
        " ((state = 'queued' AND (expires_at IS NULL OR expires_at > :now)) OR held_reason = 'overlap')"
        " AND (guard IS NULL OR guard NOT IN (SELECT guard FROM sched_jobs WHERE state = 'running'"
        " AND guard IS NOT NULL))"
    )
    with database.snapshot() as connection:
        for row in connection.execute(text(due), {"now": world.clock.time}):
            yield f"stuck: {row}"


Move = Callable[[Database], Any]
