"""Connections to PostgreSQL that do not wait for ever; how long they do is of `patience`."""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

from psycopg import Connection, OperationalError

from cronqueue.patience import NoAnswer, limited, patience

T = TypeVar("T")


class PatientConnection(Connection[Any]):
    """One that is closed when an answer does not come in time: what it was asked for may have happened."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        seconds = patience.get()
        if seconds is None:
            return super().wait(gen, *args, **options)
        try:
            return super().wait(limited(gen, monotonic() + seconds), *args, **options)
        except NoAnswer:
            self.pgconn.finish()
            raise OperationalError(f"no answer from the server within {seconds:g} s") from None
