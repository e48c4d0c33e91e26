"""Letters."""

from cronqueue import job
from cronsched import cron, daily


@daily(at=["09:30", "16:30"], tz="Europe/London", queue="mail", priority=-5, start_within="2h")
def newsletter() -> None:
    """Who has not read the last one gets none."""


@cron("H/20 * * * *", queue="mail", description="Baskets that were left behind")
def reminders() -> None:
    """One letter, never two."""


@job(queue="mail")
def welcome(customer_id: int) -> None:
    """To a new customer."""
