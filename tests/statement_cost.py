"""What a database does for the statements of ours: rows and pages on PostgreSQL, steps on SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from psycopg import sql
from sqlalchemy import event

from cronqueue.database import Database

_EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "


@dataclass
class Cost:
    """What a piece of work cost.

    `rows`: of our tables, read or passed over by PostgreSQL. `pages`: looked into by PostgreSQL, indexes
    included. `steps`: instructions of SQLite's machine. `plans`: each statement with its plan, as text.
    """

    rows: int = 0
    pages: int = 0
    steps: int = 0
    plans: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.rows} rows, {self.pages} pages, {self.steps} steps\n" + "\n".join(self.plans)


@contextmanager
def measured(database: Database) -> Iterator[Cost]:
    """Sum up what the statements in this block cost, as the code sends them.

    PostgreSQL first carries each out under EXPLAIN, in the statement's own transaction, and takes that
    back: once with the plan made for these parameters, and once with the plan for any, which a prepared
    statement gets when it has run a few times.
    """
    cost = Cost()

    def explain_postgresql(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if "sched_" not in statement:
            return
        for values, generic in product(parameters if many else [parameters], (False, True)):
            plan = _explained(cursor.connection, statement, values, generic)
            cost.rows += sum(_rows_of(node) for node in _nodes(plan["Plan"]))
            cost.pages += plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
            cost.plans += [statement, *map(_in_words, _nodes(plan["Plan"]))]

    def step() -> int:
        cost.steps += 1
        return 0

    def explain_sqlite(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        cursor.connection.set_progress_handler(None, 0)
        if "sched_" in statement:
            values = parameters[0] if many else parameters
            plan = cursor.connection.execute("EXPLAIN QUERY PLAN " + statement, values)
            cost.plans += [statement, *(row[3] for row in plan)]
        cursor.connection.set_progress_handler(step, 1)

    def watch_no_more(connection: Any, record: object) -> None:
        connection.set_progress_handler(None, 0)

    listeners: list[tuple[str, Any]] = [("before_cursor_execute", explain_postgresql)]
    if not database.is_postgresql:
        listeners = [("before_cursor_execute", explain_sqlite), ("checkin", watch_no_more)]
    for name, listener in listeners:
        event.listen(database.engine, name, listener)
    try:
        yield cost
    finally:
        for name, listener in listeners:
            event.remove(database.engine, name, listener)


def _explained(raw: Any, statement: str, values: Any, generic: bool) -> dict[str, Any]:
    with raw.cursor() as cursor:
        cursor.execute("SAVEPOINT measured")
        if generic:
            cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            names: list[str] = []
            prepared = re.sub(r"%\((\w+)\)s", lambda found: _number(names, found[1]), statement)
            cursor.execute(f"PREPARE measured AS {prepared.replace('%%', '%')}")
            given = sql.SQL(", ").join(sql.Literal(values[name]) for name in names)
            call = sql.SQL("EXECUTE measured({})" if names else "EXECUTE measured").format(given)
            cursor.execute(sql.SQL(_EXPLAIN) + call)
        else:
            cursor.execute(_EXPLAIN + statement, values)
        (plan,) = cursor.fetchone()[0]
        cursor.execute("ROLLBACK TO measured")
        if generic:
            cursor.execute("DEALLOCATE measured")
    return dict(plan)


def _number(names: list[str], name: str) -> str:
    if name not in names:
        names.append(name)
    return f"${names.index(name) + 1}"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows_of(node: dict[str, Any]) -> int:
    """Rows that a node of a plan took from a table or an index of ours, needed or not."""
    is_scan = node["Node Type"].endswith("Scan") and (
        "Relation Name" in node or "Index Name" in node
    )
    if not is_scan:
        return 0
    counts = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    per_loop = sum(float(node.get(count, 0)) for count in counts)
    return round(per_loop * float(node["Actual Loops"]))


def _in_words(node: dict[str, Any]) -> str:
    about = [node.get(what, "") for what in ("Node Type", "Index Name", "Relation Name", "Filter")]
    return f"  {' '.join(filter(None, about))}: {_rows_of(node)} rows"
