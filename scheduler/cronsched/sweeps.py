"""What every worker does for schedules every few seconds, if there is any for which something is to be done.

One look tells whether any schedule is a chain, is watched, or has a pause that runs out: where none is, and
nobody is to be told of anything, an idle worker asks nothing else.
"""

from __future__ import annotations

from sqlalchemy import text

from cronqueue import configuration
from cronqueue.database import Database, read_now
from cronsched.alerts.sending import tells_anybody, watch
from cronsched.chains import FAR, MARKED, continue_chains
from cronsched.failures import pause_failing
from cronsched.missed import tell_missed
from cronsched.pausing import resume_due


def sweep_schedules(database: Database) -> None:
    """Alert; let chains go on, pause what fails, tell what was missed, resume what was paused for a while."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        moments = {"now": database.moment(now), "far": database.moment(now + FAR)}
        there_is = connection.execute(_THERE_IS, moments | {"marked": MARKED}).one()
    # First, so that they tell of a fault in what follows, too.
    if there_is.a_watched or tells_anybody(configuration.settings()):
        watch(database)
    if there_is.a_chain:
        continue_chains(database)
    if there_is.a_watched:
        pause_failing(database)
        tell_missed(database)
    if there_is.a_pause_over:
        resume_due(database)


_THERE_IS = text("""
SELECT
    EXISTS (SELECT 1 FROM sched_schedules
        WHERE state = 'active' AND refill_at > :far AND definition LIKE :marked) AS a_chain,
    EXISTS (SELECT 1 FROM sched_schedules
        WHERE state = 'active' AND watched) AS a_watched,
    EXISTS (SELECT 1 FROM sched_schedules
        WHERE paused_at IS NOT NULL AND paused_until <= :now) AS a_pause_over
""")
