"""Mutants: wrong variants of the protocol, each a small edit of the real code. The simulation must catch all.

An edit names a function, or a constant that holds SQL, what stands there, and what comes in its place. A
mutant whose right words are not found any more says so: the code has changed, and it has to follow.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType
from typing import Any


@dataclass(frozen=True)
class Edit:
    """`where`: module:name, or module:Class.name."""

    where: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Mutant:
    """One wrong variant, and a scenario that showed it when this was written."""

    name: str
    kind: str
    seed: int
    edits: tuple[Edit, ...]


def _mutant(name: str, scenario: str, *words: str) -> Mutant:
    """Where, right and wrong, as often as there are edits."""
    kind, _, seed = scenario.partition("/")
    edits = zip(words[::3], words[1::3], words[2::3], strict=True)
    return Mutant(name, kind, int(seed or 0), tuple(Edit(*each) for each in edits))


_LOCAL_NOW = "{'now': database.moment(here().process.machine.wall())}"

_COMMIT = "connection.exec_driver_sql('COMMIT'); connection.exec_driver_sql('BEGIN IMMEDIATE')"
_INSERT_LINES = "_insert(database, connection, [*fresh, *without_job], ids)"
_INSERT_MISSING_LINES = (
    "missing = [(each, id) for each, id in zip([*fresh, *without_job], ids)"
    " if (each.schedule, each.planned.planned_for) not in there]\n"
    "    _insert(database, connection, [each for each, _ in missing], [id for _, id in missing])"
)

# fmt: off
MUTANTS = (
    # Claim.
    _mutant("a claim looks first and updates later", "workers/2",
        "cronqueue.exchange:exchange",
        "with database.begin() as connection:",
        "with database.snapshot() as early:\n"
        "            now = database.now_parameter()['now']\n"
        "            database.seen = [job for (job,) in early.exec_driver_sql(\n"
        "                \"SELECT id FROM sched_jobs WHERE state = 'queued' AND NOT gated\"\n"
        "                ' AND run_at <= ? AND (expires_at IS NULL OR expires_at > ?)'\n"
        "                ' ORDER BY priority DESC, run_at, id LIMIT 2',\n"
        "                (now, now))]\n"
        "        with database.begin() as connection:",
        "cronqueue.claim:_claim_sqlite",
        "database.listed(ids)", "database.listed(database.seen[:room])"),
    _mutant("the claim ignores run_at", "workers",
        "cronqueue.claim:_HEAD_OF_LANE", "run_at <= {now}", "true"),
    _mutant("the claim ignores expires_at", "workers",
        "cronqueue.claim:_HEAD_OF_LANE", "(expires_at IS NULL OR expires_at > {now})", "true"),
    _mutant("the claim goes by the machine's own clock", "workers/2",
        "cronqueue.claim:_claim_sqlite",
        "now = database.now_parameter()", f"now = {_LOCAL_NOW}"),
    _mutant("the claim passes the gate by", "gates",
        "cronqueue.claim:_HEAD_OF_LANE", "NOT gated", "true",
        "cronqueue.claim:find_lanes", "filter(band.takes, waiting.priorities)", "(0,)"),
    _mutant("the lowest priority is first", "workers/1",
        "cronqueue.claim:find_lanes",
        "for each in priorities)", "for each in reversed(priorities))"),
    _mutant("the newest job is first", "workers/1",
        "cronqueue.claim:_HEAD_OF_LANE", "ORDER BY run_at, id", "ORDER BY run_at DESC, id DESC"),
    _mutant("the claim takes from paused queues", "operators",
        "cronqueue.claim:find_lanes",
        "waiting.paused.union", "frozenset().union",
        "cronqueue.claim:find_lanes",
        "or waiting.paused", ""),
    _mutant("claims do not grow", "workers",
        "cronqueue.claim:_CLAIM", "claims = claims + 1", "claims = 1"),
    _mutant("the attempt is counted at the finish", "workers",
        "cronqueue.claim:_CLAIM", "attempts = attempts + 1", "attempts = attempts",
        "cronqueue.finish:_SETTLE", "attempts - {refund}", "attempts + 1 - {refund}"),
    _mutant("a token for each worker, not for each claim", "workers",
        "cronqueue.correspondence:Correspondence._order", "new_token(),", "self._spec.worker_id,"),
    _mutant("last attempts are read ahead", "workers/1",
        "cronqueue.exchange:_keep", "if job.is_last_attempt", "if False"),
    _mutant("a key is freed at the claim", "operators/3",
        "cronqueue.claim:_CLAIM", "CASE WHEN key_until = 'start' THEN NULL ELSE unique_key END", "NULL"),
    # Finish.
    _mutant("success by id only", "leases",
        "cronqueue.finish:_COMPLETE", "{chosen} AND lock_token = :lock_token", "{chosen}"),
    _mutant("success by state", "leases/22",
        "cronqueue.finish:_COMPLETE", "AND lock_token = :lock_token", "AND state = 'running'"),
    _mutant("failure by id only", "leases/5",
        "cronqueue.finish:_SETTLED_SQLITE", "id = :id AND lock_token = :lock_token", "id = :id"),
    _mutant("failure by state", "leases/5",
        "cronqueue.finish:_SETTLED_SQLITE", "AND lock_token = :lock_token", "AND state = 'running'"),
    _mutant("a snooze spends its attempt", "workers",
        "cronqueue.retry:decide",
        "delay=_bounded(delay), refund=True", "delay=_bounded(delay), refund=False"),
    _mutant("a failure is given its attempt back", "workers",
        "cronqueue.finish:_SETTLE", "attempts - {refund}", "attempts - 1"),
    _mutant("one attempt more than allowed", "workers/2",
        "cronqueue.retry:_retry", "attempt >= max_attempts", "attempt > max_attempts"),
    _mutant("a finish that was cut off is not sent again", "replies/1",
        "cronqueue.correspondence:Correspondence._exchange",
        "self._holdings.hand_in_again(handed)", "pass"),
    _mutant("a cancel that was asked for is forgotten at the end", "operators/12",
        "cronqueue.finish:_SETTLE",
        "CASE WHEN cancel_requested_at IS NULL THEN {end_state} ELSE 'cancelled' END",
        "{end_state}"),
    _mutant("what has ended keeps its key", "operators/1",
        "cronqueue.finish:_COMPLETE", "unique_key = NULL", "unique_key = unique_key"),
    # Release.
    _mutant("a release spends", "workers/1",
        "cronqueue.finish:_RELEASE", "attempts = attempts - 1", "attempts = attempts"),
    _mutant("a release by id only", "returns",
        "cronqueue.finish:_RELEASE", "{chosen} AND lock_token = :lock_token", "{chosen}"),
    _mutant("a claim of unknown outcome is forgotten", "replies/1",
        "cronqueue.correspondence:Correspondence._pause_after",
        "self._unknown.add(order.lock_token, until)", "pass"),
    _mutant("a claim of unknown outcome is run", "replies",
        "cronqueue.exchange:exchange",
        "with database.begin() as connection:\n"
        "            ours = _hand_in(database, connection, request, retention)\n"
        "            freed = find_waiting(database, connection, request.guards)\n"
        "            taken = _take(database, connection, request.order)\n"
        "            return replace(taken, ours=frozenset(ours), freed=freed)",
        "from contextlib import suppress\n"
        "        from cronqueue.database import OutcomeUnknown\n"
        "        with suppress(OutcomeUnknown), database.begin() as connection:\n"
        "            ours = _hand_in(database, connection, request, retention)\n"
        "            freed = find_waiting(database, connection, request.guards)\n"
        "            taken = _take(database, connection, request.order)\n"
        "        return replace(taken, ours=frozenset(ours), freed=freed)"),
    _mutant("an unknown task's attempt is spent", "operators",
        "cronqueue.finish:_HOLD_UNKNOWN", "attempts = attempts - 1", "attempts = attempts"),
    _mutant("nobody claims what was held as unknown", "operators",
        "cronqueue.exchange:_take",
        "if waiting is not None and waiting.unknown and len(jobs) < order.room:", "if False:"),
    # Leases.
    _mutant("leases are not renewed", "leases",
        "cronqueue.lease:_RENEW_SQLITE", "locked_until < :edge", "locked_until < '1970'"),
    _mutant("renewed only once in a lease", "leases",
        "cronqueue.lease:renewal_period", "/ 3", "* 1.05"),
    _mutant("the answer to a renewal is ignored", "leases/5",
        "cronqueue.upkeep:Upkeep._share", 'child.send("held", held)', "pass"),
    _mutant("bodies begin on old leases", "leases/2",
        "cronqueue.executor:Executor._is_trusted",
        "boottime() - renewed_at < self._trusted_for", "True"),
    _mutant("leases are measured by a clock that sleeps", "leases/2",
        "cronqueue.executor:Executor._is_trusted",
        "boottime() - renewed_at", "time.monotonic() - renewed_at"),
    _mutant("leases of stopped executors are renewed", "leases/17",
        "cronqueue.upkeep:Upkeep.turn", "if not child.is_frozen()", "if True"),
    # Rescue.
    _mutant("the rescue goes by the machine's own clock", "workers/1",
        "cronqueue.rescue:_select", "| database.now_parameter()", f"| {_LOCAL_NOW}"),
    _mutant("everything that runs is rescued", "workers",
        "cronqueue.rescue:rescue", '"locked_until < {now}"', '"true"'),
    _mutant("the rescue finds first and writes later, not fenced", "leases/13",
        "cronqueue.rescue:rescue",
        "def work(connection: Connection) -> Rescued:\n"
        "        if watch is not None:\n"
        "            watch.look_in(database, connection)\n"
        "        rows = _select(database, connection, \"locked_until < {now}\", {})",
        "with database.snapshot() as early:\n"
        "        rows = _select(database, early, \"locked_until < {now}\", {})\n\n"
        "    def work(connection: Connection) -> Rescued:",
        "cronqueue.finish:_SETTLED_SQLITE", "AND lock_token = :lock_token", "AND state = 'running'"),
    _mutant("nothing is rescued", "workers/2",
        "cronqueue.rescue:rescue", '"locked_until < {now}"', '"false"'),
    _mutant("a rescue without contact", "workers/61",
        "cronqueue.upkeep:Upkeep._rescue",
        "self._contact.unbroken_for(now) < renewal_period(self._settings.lease)", "False"),
    _mutant("a rescue does not spend", "leases",
        "cronqueue.retry:decide_lost",
        "run_alone=alone, rescued=True", "run_alone=alone, rescued=True, refund=True"),
    _mutant("a rescue beyond the last attempt", "workers/1",
        "cronqueue.retry:decide_lost", "attempt >= max_attempts", "False"),
    _mutant("what a dead executor had not begun is spent", "workers/5",
        "cronqueue.rescue:_return_batch", "if row.id not in death.started:", "if False:",
        "cronqueue.rescue:_return_batch", "for row in rows if row.id in death.started", "for row in rows"),
    _mutant("what a dead executor had begun is not spent", "workers",
        "cronqueue.rescue:_return_batch", "if row.id not in death.started:", "if True:"),
    _mutant("a dead executor's jobs are forgotten and renewed", "workers/1",
        "cronqueue.upkeep:Upkeep.died", "self._dead.append(_Dead(worker_id, death))", "pass"),
    # Gate.
    _mutant("no guard is held", "gates",
        "cronqueue.admission:_write",
        '_LET_THROUGH.replace("{slot}", "0")', '_LET_THROUGH.replace("{slot}", "NULL")'),
    _mutant("success keeps its guard", "gates",
        "cronqueue.finish:_COMPLETE", "slot = NULL, ", ""),
    _mutant("failure keeps its guard", "gates/1",
        "cronqueue.finish:_SETTLE", "locked_until = NULL, slot = NULL", "locked_until = NULL"),
    _mutant("a retry passes no gate", "gates",
        "cronqueue.finish:_SETTLE",
        "(guard IS NOT NULL AND {end_state} = 'queued' AND cancel_requested_at IS NULL)", "gated"),
    _mutant("who waits for a guard is forgotten", "gates/115",
        "cronqueue.admission:_WAITING", "state = 'held'", "false AND state = 'held'",
        "cronqueue.admission:_FREE_WAITERS", "state = 'held'", "false AND state = 'held'"),
    # Sweeps.
    _mutant("unfinished jobs are pruned", "workers/1",
        "cronqueue.prune:prune_until", "ids.all()", "ids.all() + [1, 2, 3]"),
    # Schedules.
    _mutant("a job for each occurrence, there or not", "plans/1",
        "cronsched.ledger:_write",
        "fresh = [each for key, each in wanted.items() if key not in there]", "fresh = [*wanted.values()]",
        "cronsched.ledger:_write", _INSERT_LINES, _INSERT_MISSING_LINES),
    _mutant("cursors are read before the lock, and nobody looks what is there", "gates",
        "cronsched.materializer:top_up",
        "total, until = TopUp(), database.server_now()",
        "total, until = TopUp(), database.server_now()\n"
        "    with database.snapshot() as early:\n"
        "        database.rows = _refillable(database, early, until)",
        "cronsched.materializer:_top_up_batch",
        "rows = _refillable(database, connection, until)", "rows = database.rows",
        "cronsched.ledger:_write",
        "fresh = [each for key, each in wanted.items() if key not in there]", "fresh = [*wanted.values()]",
        "cronsched.ledger:_write", _INSERT_LINES, _INSERT_MISSING_LINES),
    _mutant("a job without its line in the ledger", "gates",
        "cronsched.ledger:_write", _INSERT_LINES, "pass"),
    _mutant("the job before its line, each by itself", "plans",
        "cronsched.ledger:_write", _INSERT_LINES, f"{_COMMIT}; {_INSERT_LINES}"),
    _mutant("the cursor before the rows, each by itself", "plans/48",
        "cronsched.materializer:_top_up_batch",
        "jobs = write(database, connection, new)\n    move_cursors(database, connection, cursors)",
        f"move_cursors(database, connection, cursors); {_COMMIT}\n"
        "    jobs = write(database, connection, new)"),
    _mutant("a plan takes back what has started", "plans/1",
        "cronsched.ledger_changes:_CANCEL",
        "AND state IN ('queued', 'held')", "AND lock_token IS NULL",
        "cronsched.ledger_changes:_REMOVABLE",
        "AND state IN ('queued', 'held')", ""),
)
# fmt: on


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """The core with this mutant in it."""
    with ExitStack() as stack:
        for edit in mutant.edits:
            stack.enter_context(_edited(edit, mutant.name))
        yield


@contextmanager
def _edited(edit: Edit, name: str) -> Iterator[None]:
    module_name, _, path = edit.where.partition(":")
    module = import_module(module_name)
    owner: Any = module
    *outer, last = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    target = getattr(owner, last)
    if isinstance(target, FunctionType):
        # Its code is exchanged and not the function: whoever has imported that has the mutant too.
        before, target.__code__ = target.__code__, _compiled(target, edit, name, vars(module))
        try:
            yield
        finally:
            target.__code__ = before
    else:
        setattr(owner, last, _replaced(target, edit))
        try:
            yield
        finally:
            setattr(owner, last, target)


# A second edit of a function is made in what the first one has left.
_sources: dict[Any, str] = {}


def _compiled(function: FunctionType, edit: Edit, name: str, names: dict[str, Any]) -> Any:
    from simulation.world import me

    source = _sources.get(function.__code__) or textwrap.dedent(inspect.getsource(function))
    source = _replaced(source, edit)
    made: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    names.setdefault("here", me)
    exec(compile(source, f"<{name}>", "exec", flags=flags, dont_inherit=True), names, made)
    code = made[function.__name__].__code__
    _sources[code] = source
    return code


def _replaced(text: str, edit: Edit) -> str:
    if edit.right not in text:
        raise LookupError(f"{edit.where} does not hold {edit.right!r} any more")
    return text.replace(edit.right, edit.wrong)
