"""`sched alerts`: what was told, whether it arrived, by which rules, and a test of each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import FAILED, Exit
from cronsched.cli.output import print_done, print_fields, print_json, print_list, print_table

if TYPE_CHECKING:
    from cronsched.alerts.rules import Rules


@click.group(cls=SchedGroup)
def command() -> None:
    """Alerts: what was told, whether it arrived, by which rules, and a test of each channel."""


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True)
@pass_state
def list_(state: State, limit: int) -> None:
    """What was told lately or is about to be, the newest first."""
    from cronsched.alerts.recent import recent_alerts

    print_list(
        state,
        recent_alerts(state.open(), limit),
        ("ID", "KIND", "STATE", "WHERE", "TIMES", "UNTOLD", "LAST", "TOLD", "NEXT", "WHAT"),
        lambda each: (
            each.id,
            each.kind,
            each.state,
            each.subject,
            each.count,
            each.untold,
            each.last_at,
            each.told_at,
            each.due_at,
            each.message,
        ),
    )


@command.command()
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True)
@click.option("--pings", is_flag=True, help="Those of schedules and daemons too.")
@pass_state
def messages(state: State, limit: int, pings: bool) -> None:
    """The messages, each for one channel: sent, waiting for the next try, or given up."""
    from cronsched.alerts.recent import recent_messages

    print_list(
        state,
        recent_messages(state.open(), limit, pings=pings),
        ("ID", "CHANNEL", "STATE", "TRIES", "MADE", "NEXT TRY", "SENT", "ERROR", "TELLS"),
        lambda each: (
            each.id,
            each.channel,
            each.state,
            each.attempts,
            each.created_at,
            each.due_at,
            each.sent_at,
            each.error,
            each.tells,
        ),
    )


@command.command()
@pass_state
def rules(state: State) -> None:
    """What is told, to whom and how often, by the settings of this command."""
    from cronsched.alerts.rules import find_rules

    found = find_rules(state.open(), state.loaded.settings)
    if state.as_json:
        print_json(found)
        return
    print_fields(
        state,
        {
            "told": ", ".join(found.told) or "nothing",
            "gathered for": found.wait,
            "one cause again after": found.repeat,
            "looked for": found.looked_at or "never: no worker and no daemon has alerts set up",
            "daemon pings": found.daemon_ping,
        },
    )
    _print_channels(state, found)
    _print_promises(state, found)


def _print_channels(state: State, found: Rules) -> None:
    if not found.channels:
        click.echo("no channel: [alerts] in sched.toml, or SCHED_ALERTS_...")
        return
    rows = [
        (
            each.name,
            each.target or "not of these settings",
            each.sent,
            each.waiting,
            each.failed,
            each.last_sent_at,
            each.last_error,
        )
        for each in found.channels
    ]
    headers = ("CHANNEL", "TO", "SENT", "WAITING", "FAILED", "LAST SENT", "ERROR")
    click.echo()
    print_table(state, headers, rows)


def _print_promises(state: State, found: Rules) -> None:
    if not found.schedules:
        return
    rows = [
        (each.schedule, each.must_start_within, each.must_finish_by, each.ping, each.is_paused)
        for each in found.schedules
    ]
    click.echo()
    print_table(state, ("SCHEDULE", "MUST START WITHIN", "FINISH BY", "PINGS", "PAUSED"), rows)


@command.command()
@click.argument("channel", type=click.Choice(["email", "webhook", "command", "apprise"]))
@pass_state
def test(state: State, channel: str) -> None:
    """Send a message that says that it is a test, here and now."""
    from cronsched.alerts.outside import NotSent
    from cronsched.alerts.recent import send_test

    try:
        send_test(state.loaded.settings, channel)
    except NotSent as error:
        raise Exit(FAILED, str(error)) from None
    print_done(state, f"sent by {channel}", {"channel": channel})
