"""The same rows into the same indexes by hand: what the drivers reach without a queue around them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cronqueue.columns import to_text
from cronqueue.database import Database

NO_ARGS = '{"args":[],"kwargs":{}}'

_COLUMNS = "task, args, queue, priority, max_attempts, run_at, created_at, updated_at"
_INSERT_POSTGRESQL = f"""
INSERT INTO sched_jobs ({_COLUMNS}) VALUES
    (%s, %s, 'default', 0, 25, statement_timestamp(), statement_timestamp(), statement_timestamp())
RETURNING id"""
_INSERT_SQLITE = f"""
INSERT INTO sched_jobs ({_COLUMNS}) VALUES (?, ?, 'default', 0, 25, ?, ?, ?) RETURNING id"""
_UNNEST = f"""
INSERT INTO sched_jobs ({_COLUMNS})
SELECT %s, CAST(args AS json), 'default', 0, 25,
    statement_timestamp(), statement_timestamp(), statement_timestamp()
FROM unnest(%s::text[]) AS args RETURNING id"""
_JSON_EACH = f"""
INSERT INTO sched_jobs ({_COLUMNS})
SELECT :task, value, 'default', 0, 25, :now, :now, :now FROM json_each(:args)"""
_CLAIMED = """
state = 'running', attempts = attempts + 1, claims = claims + 1, locked_by = 'raw', worker_id = 'raw'"""
_DUE = "state = 'queued' AND NOT gated AND length(queue) > 0 AND priority = 0 AND run_at <= {now}"
_FINISHED = (
    "state = 'succeeded', lock_token = NULL, locked_until = NULL, slot = NULL, unique_key = NULL"
)
_CLAIM_POSTGRESQL = f"""
UPDATE sched_jobs SET {_CLAIMED}, lock_token = %(token)s, locked_at = statement_timestamp(),
    locked_until = statement_timestamp() + interval '30 s', started_at = statement_timestamp(),
    updated_at = statement_timestamp()
WHERE id = ANY(ARRAY(
    SELECT id FROM sched_jobs WHERE {_DUE.format(now="statement_timestamp()")}
    ORDER BY run_at, id LIMIT %(count)s FOR UPDATE SKIP LOCKED))
RETURNING id, task, args, priority, run_at"""
_FINISH_POSTGRESQL = f"""
UPDATE sched_jobs SET {_FINISHED}, finished_at = statement_timestamp(), updated_at = statement_timestamp()
WHERE id = ANY(%(ids)s) AND lock_token = %(token)s"""
_CLAIM_SQLITE = f"""
UPDATE sched_jobs SET {_CLAIMED}, lock_token = :token, locked_at = :now, locked_until = :until,
    started_at = :now, updated_at = :now
WHERE id IN (SELECT id FROM sched_jobs WHERE {_DUE.format(now=":now")} ORDER BY run_at, id LIMIT :count)
RETURNING id, task, args, priority, run_at"""
_FINISH_SQLITE = f"""
UPDATE sched_jobs SET {_FINISHED}, finished_at = :now, updated_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND lock_token = :token"""


class RawQueue:
    """One connection of the driver, every statement its own transaction."""

    def __init__(self, database: Database) -> None:
        self.is_postgresql = database.is_postgresql
        if self.is_postgresql:
            import psycopg

            url = database.url.set(drivername="postgresql")
            self.connection: Any = psycopg.connect(
                url.render_as_string(hide_password=False), autocommit=True
            )
        else:
            import sqlite3

            assert database.url.database is not None
            self.connection = sqlite3.connect(
                database.url.database, isolation_level=None, timeout=10
            )
            self.connection.execute("PRAGMA synchronous = FULL")
        self._cursor = self.connection.cursor()

    def insert(self, task: str, args: str = NO_ARGS) -> int:
        """One job."""
        if self.is_postgresql:
            found = self._cursor.execute(_INSERT_POSTGRESQL, (task, args)).fetchone()
        else:
            now = _now()
            found = self._cursor.execute(_INSERT_SQLITE, (task, args, now, now, now)).fetchone()
        number: int = found[0]
        return number

    def insert_many(self, task: str, args: Sequence[str]) -> None:
        """Jobs in one statement."""
        if self.is_postgresql:
            self._cursor.execute(_UNNEST, (task, list(args))).fetchall()
        else:
            parameters = {"task": task, "args": json.dumps(args), "now": _now()}
            self._cursor.execute(_JSON_EACH, parameters)

    def exchange(self, done: Sequence[int], token: str, count: int) -> tuple[list[int], str]:
        """Finish what the token stands for and claim as many, in one transaction."""
        self._cursor.execute("BEGIN" if self.is_postgresql else "BEGIN IMMEDIATE")
        if done:
            self._finish(done, token)
        token = secrets.token_urlsafe(16)
        if self.is_postgresql:
            parameters = {"token": token, "count": count}
            rows = self._cursor.execute(_CLAIM_POSTGRESQL, parameters).fetchall()
        else:
            parameters = {"token": token, "count": count, "now": _now(), "until": _now(30)}
            rows = self._cursor.execute(_CLAIM_SQLITE, parameters).fetchall()
        self._cursor.execute("COMMIT")
        rows.sort(key=lambda row: (-row[3], row[4], row[0]))
        return [row[0] for row in rows], token

    def drain(self, batch: int = 100) -> int:
        """Claim and finish until nothing is due; how many there were."""
        total, done, token = 0, list[int](), ""
        while True:
            done, token = self.exchange(done, token, batch)
            if not done:
                return total
            total += len(done)

    def one(self, query: str) -> Any:
        """The one value that a query finds."""
        return self.connection.execute(query).fetchone()[0]

    def close(self) -> None:
        self.connection.close()

    def _finish(self, done: Sequence[int], token: str) -> None:
        if self.is_postgresql:
            self._cursor.execute(_FINISH_POSTGRESQL, {"ids": done, "token": token})
        else:
            ids = json.dumps(done)
            self._cursor.execute(_FINISH_SQLITE, {"ids": ids, "token": token, "now": _now()})


def _now(later: float = 0) -> str:
    return to_text(datetime.now(UTC) + timedelta(seconds=later))
