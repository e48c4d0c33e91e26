"""What others want to read."""

from cronqueue import job
from cronsched import daily, hourly, weekly


@hourly(minute=30, queue="reports", description="Sales since midnight")
def sales() -> None:
    """For the screen in the hall."""


@daily(at="07:30", tz="America/New_York", queue="reports", priority=10)
def morning() -> None:
    """For those who decide."""


@weekly(day="mon", at="06:00", tz="Europe/London", queue="reports")
def week() -> None:
    """The week before."""


@job(queue="reports", timeout="1h")
def export(year: int, kind: str = "pdf") -> str:
    """All orders of a year."""
    return f"exports/{year}.{kind}"
