"""Money: taken, settled, written to the books."""

from cronqueue import job
from cronsched import daily, every, hourly, monthly


@every("5m", queue="billing", priority=20, timeout="2m", description="Payments that were reserved")
def capture() -> None:
    """Take what customers have agreed to."""


@hourly(minute=10, queue="billing", priority=10, description="Orders that are paid for")
def settle() -> None:
    """Close the orders."""


@daily(at="03:00", tz="Europe/Berlin", queue="billing", must_finish_by="1h")
def reconcile() -> None:
    """Compare the bank's list with ours."""


@monthly(day=1, at="04:00", tz="Europe/Berlin", queue="billing", catch_up="all")
def close_month() -> None:
    """The books of last month."""


@job(queue="billing", max_attempts=5)
def refund(order_id: int, amount: str) -> None:
    """Give money back."""
