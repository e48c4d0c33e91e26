"""`sched db`: the schema."""

from __future__ import annotations

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import WRONG, Exit
from cronsched.cli.output import counted, print_done, print_fields, print_json


@click.group(cls=SchedGroup)
def command() -> None:
    """The tables: one version for each release; SQLite files are given theirs by themselves."""


@command.command()
@pass_state
def upgrade(state: State) -> None:
    """Bring the schema to this release's version; safe while others do the same."""
    from cronqueue import schema
    from cronqueue.database import shown

    database = state.open(check=False)
    before = schema.upgrade(database)
    what = "was there already" if before.fit == "ok" else f"from {before.version or 'nothing'}"
    words = f"{shown(database.url)}: schema {schema.HEAD}, {what}"
    print_done(state, words, {"before": before.version, "version": schema.HEAD})


@command.command()
@pass_state
def current(state: State) -> None:
    """Print the schema's version."""
    from cronqueue import schema

    found = schema.current(state.open(check=False))
    if state.as_json:
        print_json(found)
    else:
        click.echo(found.version or "none")


@command.command()
@pass_state
def check(state: State) -> None:
    """Whether the schema fits this release; exit code 4 if not."""
    from cronqueue import schema
    from cronqueue.database import shown

    database = state.open(check=False)
    found = schema.current(database)
    if state.as_json:
        print_json({"version": found.version, "needed": schema.HEAD, "fit": found.fit})
    elif found.fit == "ok":
        click.echo(f"{shown(database.url)}: schema {found.version} fits")
    if found.fit != "ok":
        raise Exit(WRONG, schema.explain(database, found))


@command.command()
@click.option(
    "--dialect", type=click.Choice(["postgresql", "sqlite"]), help="Default: the database's."
)
@click.option("--from", "start", metavar="VERSION", help="Only what comes after this version.")
@pass_state
def sql(state: State, dialect: str | None, start: str | None) -> None:
    """Print the statements of an upgrade instead of running them."""
    from cronqueue import schema

    if dialect is None:
        dialect = (
            "postgresql" if state.loaded.settings.database_url.startswith("postgres") else "sqlite"
        )
    statements = schema.sql(dialect, start)
    if state.as_json:
        print_json({"dialect": dialect, "sql": statements})
    else:
        click.echo(statements)


@command.command()
@pass_state
def prune(state: State) -> None:
    """Delete what has been kept long enough, now."""
    from cronqueue import prune as pruning

    database, settings = state.open(), state.loaded.settings
    total = 0
    while count := pruning.prune(database, settings.keep_finished, settings.keep_finished_count):
        total += count
    print_done(state, f"deleted {counted(total, 'job')}", {"deleted": total})


@command.command()
@click.option(
    "--seconds", type=click.FloatRange(0.1, 60), default=2.0, help="For each figure.  [2]"
)
@pass_state
def bench(state: State, seconds: float) -> None:
    """Measure what this database can do for a queue; leaves nothing behind.

    Jobs are stored, claimed and finished in a table of their own, by one connection; commits are as
    durable as the database makes them.
    """
    from dataclasses import asdict

    from cronqueue import capacity

    found = capacity.measure(state.open(), seconds)
    if state.as_json:
        print_json(asdict(found))
        return
    told = {
        "a round trip": f"{found.round_trip_ms:.2f} ms",
        "stored, one at a time": f"{found.stored_one_by_one:,.0f} jobs/s",
        f"stored, {capacity.BULK:,} at a time": f"{found.stored_in_bulk:,.0f} jobs/s",
        "claimed and finished, one at a time": f"{found.worked_one_by_one:,.0f} jobs/s",
        f"claimed and finished, {capacity.BATCH} at a time": f"{found.worked_in_batches:,.0f} jobs/s",
    }
    print_fields(state, told)
    click.echo("`enqueue` comes near the first of the stored ones, a worker near the last line.")


@command.command()
@click.option("--role", "kind", metavar="KIND", help="One of them; default: all.")
@click.option("--to", "name", metavar="NAME", help="What your role is called; default sched_KIND.")
@pass_state
def grants(state: State, kind: str | None, name: str | None) -> None:
    """Print SQL for PostgreSQL: roles that may do what their processes need, and no more.

    KIND is enqueuer, worker, daemon, operator or reader. Run the statements as the owner of the
    tables, again after each upgrade.
    """
    from cronqueue.grants import PURPOSES, ROLES, statements

    if name is not None and kind is None:
        raise click.UsageError("--to needs --role")
    made = {each: list(statements(each, name)) for each in ([kind] if kind else ROLES)}
    if state.as_json:
        print_json(made)
        return
    for each, lines in made.items():
        click.echo(f"-- {each}: {PURPOSES[each]}")
        click.echo("".join(f"{line};\n" for line in lines))
