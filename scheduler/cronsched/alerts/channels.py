"""The channels: how a message leaves. Each takes it or raises NotSent, within a minute."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from cronqueue.settings import Settings
from cronsched.alerts.outbox import Message
from cronsched.alerts.outside import NotSent, request
from cronsched.alerts.wording import subject_of, text_of

log = logging.getLogger("cronsched.alerts")

SMTP_TIMEOUT = 10.0
COMMAND_TIMEOUT = 30.0
# The mail server of this machine has a certificate that nobody vouches for, and needs none.
_OURSELVES = ("localhost", "127.0.0.1", "::1")


def channels_of(settings: Settings) -> list[str]:
    """The names of the channels that are configured."""
    configured = {
        "email": settings.alerts_email_to,
        "webhook": settings.alerts_webhook_url,
        "command": settings.alerts_command,
        "apprise": settings.alerts_apprise_urls,
    }
    return [name for name, value in configured.items() if value]


def send(settings: Settings, message: Message) -> None:
    """Send a message by its channel. Raises NotSent."""
    _SENDERS[message.channel](settings, message)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What proves that a message is ours, and how old it is: HMAC-SHA256 of the time, a dot, and the body."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _webhook(settings: Settings, message: Message) -> None:
    assert settings.alerts_webhook_url is not None
    body = message.body.encode()
    headers = {"Content-Type": "application/json", "Sched-Message": str(message.id)}
    if settings.alerts_webhook_secret is not None:
        timestamp = str(int(time.time()))
        signed = signature(settings.alerts_webhook_secret, timestamp, body)
        headers |= {"Sched-Timestamp": timestamp, "Sched-Signature": f"v1={signed}"}
    request(settings.alerts_webhook_url, body=body, headers=headers, allow=settings.alerts_allow)


def _ping(settings: Settings, message: Message) -> None:
    request(json.loads(message.body)["url"], allow=settings.alerts_allow)


def _email(settings: Settings, message: Message) -> None:
    parts = urlsplit(settings.alerts_smtp_url or "smtp://localhost")
    host = parts.hostname or "localhost"
    mail = _mail(settings, message)
    try:
        server = _mail_server(parts, host)
        try:
            refused = server.send_message(mail)
        finally:
            with suppress(OSError, smtplib.SMTPException):  # it has the mail, or has refused it
                server.quit()
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(f"{host} does not take the mail: {error}") from None
    for address, (_, reason) in refused.items():  # the others have it, and would get it again
        log.error("alert %d: %s refuses %s: %s", message.id, host, address, reason)


def _mail_server(parts: SplitResult, host: str) -> smtplib.SMTP:
    """A connection to it, encrypted if it is not ours, and past its door."""
    context = ssl.create_default_context()
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, parts.port or 465, timeout=SMTP_TIMEOUT, context=context
        )
    else:
        server = smtplib.SMTP(host, parts.port or 25, timeout=SMTP_TIMEOUT)
    try:
        server.ehlo()
        if parts.scheme == "smtp" and host not in _OURSELVES:
            if server.has_extn("starttls"):
                server.starttls(context=context)
            elif parts.username:
                raise NotSent(f"{host} offers no STARTTLS: the password is not sent in the clear")
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
    except BaseException:
        server.close()
        raise
    return server


def _mail(settings: Settings, message: Message) -> EmailMessage:
    body = json.loads(message.body)
    mail = EmailMessage()
    mail["From"] = settings.alerts_email_from or f"sched@{socket.getfqdn()}"
    mail["To"] = ", ".join(settings.alerts_email_to)
    mail["Subject"] = subject_of(body)
    mail["Date"] = formatdate(localtime=False)
    mail["Message-ID"] = make_msgid(f"sched-{message.id}", domain=socket.getfqdn())
    mail["Auto-Submitted"] = "auto-generated"  # nobody's holiday answers
    mail.set_content(text_of(body))
    return mail


def _command(settings: Settings, message: Message) -> None:
    program = settings.alerts_command[0]
    try:
        process = subprocess.Popen(  # noqa: S603 - what the settings name, without a shell
            settings.alerts_command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "ALERT_MESSAGE": str(message.id)},
        )
    except OSError as error:
        raise NotSent(f"{program} cannot be started: {error.strerror}") from None
    with process:
        try:
            _, complaint = process.communicate(message.body.encode(), timeout=COMMAND_TIMEOUT)
        except subprocess.TimeoutExpired:
            _end_group(process)
            raise NotSent(f"{program} has not ended within {COMMAND_TIMEOUT:g} s") from None
    if process.returncode:
        words = complaint.decode(errors="replace").strip()[-200:]
        raise NotSent(
            f"{program} ended with {process.returncode}" + (f": {words}" if words else "")
        )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """It, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _apprise(settings: Settings, message: Message) -> None:
    try:
        import apprise
    except ImportError:
        raise NotSent(
            "apprise is not installed: pip install 'cronqueue[notify]' brings it"
        ) from None
    body: dict[str, Any] = json.loads(message.body)
    targets = apprise.Apprise()
    for number, url in enumerate(settings.alerts_apprise_urls, 1):
        if not targets.add(url):
            raise NotSent(f"apprise does not know target {number} of alerts_apprise_urls")
    if not targets.notify(title=subject_of(body), body=text_of(body)):
        raise NotSent("apprise could not reach all of its targets")


_SENDERS: dict[str, Callable[[Settings, Message], None]] = {
    "email": _email,
    "webhook": _webhook,
    "command": _command,
    "apprise": _apprise,
    "ping": _ping,
}
