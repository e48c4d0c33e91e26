"""`sched audit`: every promised occurrence has exactly one verdict."""

from __future__ import annotations

from datetime import timedelta

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import WRONG, Exit, refuse, say
from cronsched.cli.output import counted, parse_time, print_done, print_json, print_table

_DAY = timedelta(days=1)


@click.command("audit", cls=SchedCommand)
@click.option("--from", "start", metavar="TIME", help="From this time; default a day before --to.")
@click.option("--to", "end", metavar="TIME", help="Up to this time, left out; default now.")
@pass_state
def command(state: State, start: str | None, end: str | None) -> None:
    """Compute again what was promised, and hold the ledger against it: exit code 4 if it differs."""
    from cronsched.ledger_audit import audit

    database = state.open()
    until = database.server_now() if end is None else parse_time(state, "--to", end)
    since = until - _DAY if start is None else parse_time(state, "--from", start)
    if since >= until:
        refuse(f"--from {since.isoformat()} is not before --to {until.isoformat()}")
    done = audit(database, since, until)
    for name in done.unknown:
        say(
            f"schedule {name}: what it promised there cannot be computed here; its verdicts are looked at"
        )
    if state.as_json:
        told = {"occurrences": done.occurrences, "findings": done.findings, "unknown": done.unknown}
        print_json({"from": since, "to": until, **told})
    elif done.findings:
        rows = [(each.kind, each.schedule, each.planned_for, each.detail) for each in done.findings]
        print_table(state, ("KIND", "SCHEDULE", "PLANNED FOR", "WHAT"), rows)
    else:
        print_done(state, f"{counted(done.occurrences, 'occurrence')}, each accounted for", None)
    if done.findings:
        raise Exit(WRONG, f"{len(done.findings)} of {done.occurrences} do not add up")
