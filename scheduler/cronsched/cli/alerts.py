"""`sched alerts`: what was told, whether it arrived, and a test of each channel."""

from __future__ import annotations

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import FAILED, Exit
from cronsched.cli.output import print_done, print_list


@click.group(cls=SchedGroup)
def command() -> None:
    """Alerts: what was told, whether it arrived, and a test of each channel."""


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True)
@pass_state
def list_(state: State, limit: int) -> None:
    """What was told lately or is about to be, the newest first."""
    from cronsched.alerts.recent import recent_alerts

    print_list(
        state,
        recent_alerts(state.open(), limit),
        ("ID", "KIND", "STATE", "WHERE", "TIMES", "LAST", "TOLD", "WHAT"),
        lambda each: (
            each.id,
            each.kind,
            each.state,
            each.subject,
            each.count,
            each.last_at,
            each.told_at,
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
        ("ID", "CHANNEL", "STATE", "TRIES", "MADE", "NEXT TRY", "SENT", "ERROR"),
        lambda each: (
            each.id,
            each.channel,
            each.state,
            each.attempts,
            each.created_at,
            each.due_at,
            each.sent_at,
            each.error,
        ),
    )


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
