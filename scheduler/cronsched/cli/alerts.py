"""`sched alerts`: what was told, whether it arrived, by which rules, and a test of each channel."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import FAILED, Exit, refuse
from cronsched.cli.output import (
    parse_end,
    print_done,
    print_fields,
    print_json,
    print_list,
    print_table,
    show_time,
)
from cronsched.cli.parameters import DURATION

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
        (
            "ID",
            "KIND",
            "STATE",
            "WHERE",
            "TIMES",
            "UNTOLD",
            "LAST",
            "TOLD",
            "NEXT",
            "MUTED",
            "WHAT",
        ),
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
            each.muted_until,
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
@click.argument("target")
@click.option("--until", metavar="TIME", help="Tell again from then on.")
@click.option("--for", "how_long", type=DURATION, help="Tell again after so long.")
@click.option("--reason", help="Shown to everybody.")
@pass_state
def mute(
    state: State, target: str, until: str | None, how_long: timedelta | None, reason: str | None
) -> None:
    """For a time tell nobody of: all, schedule:NAME, task:NAME, or cause:CAUSE.

    It is counted meanwhile, and told when the mute has ended. `alerts list --json` has the causes.
    """
    from cronqueue.audit import this_user
    from cronsched.alerts import muting

    moment = parse_end(state, until, how_long)
    if moment is None:
        refuse("a mute ends by itself: give --for DURATION or --until TIME")
    muting.mute(state.open(), target, until=moment, actor=this_user(), reason=reason)
    undo = shlex.join(["sched", "alerts", "unmute", target])
    words = f"{target} is muted until {show_time(state, moment)}; undo: {undo}"
    print_done(state, words, {"target": target, "muted_until": moment})


@command.command()
@click.argument("target")
@pass_state
def unmute(state: State, target: str) -> None:
    """Tell of it again, and of what came meanwhile."""
    from cronqueue.audit import this_user
    from cronsched.alerts import muting

    muting.unmute(state.open(), target, actor=this_user())
    print_done(state, f"{target} is told again", {"target": target, "muted_until": None})


@command.command()
@pass_state
def mutes(state: State) -> None:
    """What is muted now, and until when."""
    from cronsched.alerts.muting import list_mutes

    print_list(
        state,
        list_mutes(state.open()),
        ("TARGET", "SINCE", "UNTIL", "BY", "REASON"),
        lambda each: (each.target, each.since, each.until, each.by, each.reason),
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
