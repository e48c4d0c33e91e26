"""The thread that sends, beside whatever the process does: a channel that hangs holds up no job and no lease.

`watch` is what every worker calls every few seconds where there is somebody to tell (`cronsched.sweeps`), and
every daemon with each pass.
"""

from __future__ import annotations

import logging
import threading

from cronqueue import configuration
from cronqueue.database import Database, is_outage
from cronqueue.durations import format_duration
from cronqueue.settings import Settings
from cronsched.alerts import outbox
from cronsched.alerts.channels import channels_of, send
from cronsched.alerts.looking import look
from cronsched.alerts.outside import NotSent

log = logging.getLogger("cronsched.alerts")


def watch(database: Database, settings: Settings | None = None) -> None:
    """Look for what is to be told, if nobody has just done so, and let the thread send what is due.

    Raises what an outage of the database raises, and nothing else: others have their turn after us.
    """
    settings = settings or configuration.settings()
    try:
        is_wanted = look(database, settings) or settings.alerts_daemon_ping is not None
        if is_wanted and outbox.is_any_due(database, _ways_out(settings)):
            _sender_of(database).wake(settings)
    except Exception as error:
        if is_outage(error):
            raise
        log.exception("looking for alerts failed")


def tells_anybody(settings: Settings) -> bool:
    """Whether this process has an address of its own; a watched schedule may have others."""
    return bool(channels_of(settings)) or settings.alerts_daemon_ping is not None


def send_due(database: Database, settings: Settings) -> int:
    """Send whatever is due by the channels that we have; returns how many messages were tried."""
    count = 0
    while (message := outbox.claim(database, _ways_out(settings))) is not None:
        count += 1
        send_one(database, settings, message)
    return count


def _ways_out(settings: Settings) -> list[str]:
    return ["ping", *channels_of(settings)]


def send_one(database: Database, settings: Settings, message: outbox.Message) -> None:
    """Try to send a message that we have claimed, and note what came of it."""
    try:
        send(settings, message)
    except Exception as error:  # of whatever kind: the next message may go through
        again = outbox.failed(database, message, str(error) or type(error).__name__)
        if not isinstance(error, NotSent):
            log.exception("alert %d: %s failed", message.id, message.channel)
        elif again is None:
            log.error("alert %d is given up: %s", message.id, error)
        else:
            log.warning("alert %d, next try in %s: %s", message.id, format_duration(again), error)
    else:
        outbox.sent(database, message)


class Sender(threading.Thread):
    """Sends when it is woken. It ends with the process; what it was at is sent again by another."""

    def __init__(self, database: Database) -> None:
        super().__init__(name="alerts", daemon=True)
        self._database = database
        self._settings = Settings()
        self._is_woken = threading.Event()

    def wake(self, settings: Settings) -> None:
        """There may be something to send."""
        self._settings = settings
        self._is_woken.set()

    def run(self) -> None:
        """Send for as long as the process lives."""
        while self._is_woken.wait():
            self._is_woken.clear()
            try:
                send_due(self._database, self._settings)
            except Exception as error:
                if not is_outage(error):  # of which others tell
                    log.exception("sending alerts failed")


_lock = threading.Lock()
_sender: tuple[Database, Sender] | None = None


def _sender_of(database: Database) -> Sender:
    """The thread of this process, started when it is first needed."""
    global _sender
    with _lock:
        if _sender is None or _sender[0] is not database or not _sender[1].is_alive():
            sender = Sender(database)
            sender.start()
            _sender = (database, sender)
        return _sender[1]
