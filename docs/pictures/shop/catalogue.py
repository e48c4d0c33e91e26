"""What is for sale, and how it is found."""

from cronsched import cron, every, hourly


@hourly(queue="search", timeout="30m", description="The search index, anew")
def reindex() -> None:
    """All products."""


@every("10m", queue="imports", overlap="skip", description="What the suppliers have in stock")
def stock() -> None:
    """Their feeds, one after the other."""


@cron("*/15 7-20 * * mon-fri", tz="Europe/London", queue="imports")
def prices() -> None:
    """Prices of the day."""


@cron("0 1,13 * * *", tz="Asia/Tokyo", queue="imports", description="The Osaka warehouse")
def osaka() -> None:
    """Counted twice a day."""
