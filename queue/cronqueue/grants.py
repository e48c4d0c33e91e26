"""What each kind of process may do on PostgreSQL: a role for each, with as little as its work needs.

None of them may change the schema, and nobody may change or delete what the audit says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cronqueue.errors import ConfigurationError
from cronqueue.models import OF_OTHERS, Base, jobs
from cronqueue.schema import VERSION_TABLE

_READ: Final = "SELECT"
_APPEND: Final = "SELECT, INSERT"
# A row that is locked has to be one that may be updated.
_WRITE: Final = "SELECT, INSERT, UPDATE"
_ALL: Final = "SELECT, INSERT, UPDATE, DELETE"

_TABLES: Final = (*sorted(Base.metadata.tables), VERSION_TABLE)
_LEDGER: Final = "sched_ledger"
_OF_OTHERS: Final = [each.property.columns[0].name for each in OF_OTHERS]

Privileges = Mapping[str, str]


def _reading(**more: str) -> dict[str, str]:
    return dict.fromkeys((*_TABLES, _LEDGER), _READ) | more


# Whoever runs tasks may enqueue, and ends, prunes and goes on with what schedules have written.
_WORKING: Final = _reading(
    sched_jobs=_ALL,
    sched_attempts=_ALL,
    sched_log_lines="SELECT, INSERT, DELETE",
    sched_guards=_WRITE,
    sched_occurrences=_WRITE,
    sched_schedules="SELECT, UPDATE",
    sched_workers=_ALL,
    sched_requests="SELECT, DELETE",
    sched_alerts=_ALL,
    sched_alert_messages=_ALL,
    sched_alert_marks=_ALL,
    sched_alert_looks=_WRITE,
    sched_audit=_APPEND,
)
_PLANNING: Final = _WORKING | dict.fromkeys(
    (
        "sched_schedules",
        "sched_occurrences",
        "sched_occurrence_ranges",
        "sched_revisions",
        "sched_sources",
        "sched_overrides",
        "sched_manifests",
    ),
    _ALL,
)
ROLES: Final[Mapping[str, Privileges]] = {
    "enqueuer": {
        "sched_jobs": "INSERT, SELECT ({})".format(
            ", ".join(each.name for each in jobs.columns if each.name not in _OF_OTHERS)
        ),
        VERSION_TABLE: _READ,
    },
    "worker": _WORKING,
    "daemon": _PLANNING,
    "operator": _PLANNING | {"sched_queues": _WRITE, "sched_requests": _ALL},
    "reader": _reading(),
}
PURPOSES: Final[Mapping[str, str]] = {
    "enqueuer": "enqueues jobs, and reads none of their arguments, results and errors",
    "worker": "runs tasks: sched worker",
    "daemon": "writes what schedules promise: sched daemon",
    "operator": "does what people ask for: the commands, the web with its buttons",
    "reader": "looks at everything, and changes nothing",
}


def statements(kind: str, role: str | None = None) -> Iterator[str]:
    """The SQL that makes a role of this kind, or brings one to what this release needs."""
    if kind not in ROLES:
        raise ConfigurationError(f"no role {kind!r}: {', '.join(ROLES)}")
    name = _quoted(role or f"sched_{kind}")
    privileges = ROLES[kind]
    yield (
        f"DO $$ BEGIN CREATE ROLE {name} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    yield f"REVOKE ALL ON {', '.join((*_TABLES, _LEDGER))} FROM {name}"
    for table in sorted(privileges):
        yield f"GRANT {privileges[table]} ON {table} TO {name}"
    for table in sorted(_numbered(privileges)):
        yield f"GRANT USAGE ON SEQUENCE {table}_id_seq TO {name}"


def _numbered(privileges: Privileges) -> Iterator[str]:
    """The tables whose rows get their number from a sequence."""
    for table, granted in privileges.items():
        known = Base.metadata.tables.get(table)
        if "INSERT" in granted and known is not None and known.autoincrement_column is not None:
            yield table


def _quoted(name: str) -> str:
    """As an identifier, whatever is in it."""
    if not name or "\0" in name or "$$" in name:
        raise ConfigurationError(f"{name!r} cannot be the name of a role")
    return '"' + name.replace('"', '""') + '"'
