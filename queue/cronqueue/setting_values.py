"""What settings may say, each read into its value. All of these raise ValueError with the remedy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

from cronqueue.durations import parse_duration

# Shorter passwords are guessed.
LEAST_SECRET = 12
# What a user of the web may do; each includes the ones before.
ROLES = ("viewer", "operator", "admin")
_USER = re.compile(
    rf"({'|'.join(ROLES)}):(scrypt-\d{{1,2}}-\d{{1,2}}-\d{{1,2}}\.[\w-]+\.[\w-]+|sha256\.[0-9a-f]{{64}})",
    re.ASCII,
)
# What may be told.
ALERT_KINDS = ("failed", "missed", "late", "daemon", "coverage")


def read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("give a text")
    if not value.isprintable():  # control characters, or bytes that are no UTF-8
        raise ValueError("give a text of printable characters")
    return value


def read_secret(value: object) -> str:
    text = read_text(value)
    if len(text) < LEAST_SECRET:
        raise ValueError(f"give at least {LEAST_SECRET} characters")
    return text


def read_whole(least: int, most: int | None = None) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("give a whole number")
        try:
            number = int(value)
        except ValueError:
            raise ValueError("give a whole number") from None
        if number < least:
            raise ValueError(f"give a whole number of at least {least}")
        if most is not None and number > most:
            raise ValueError(f"give a whole number of at most {most}")
        return number

    return read


def read_flag(value: object) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
        "": False,
    }
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("give true or false")
    return words[value.lower()]


def read_one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"give {' or '.join(words)}")
        return str(value)

    return read


def read_names(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("give names, separated by commas")
    return tuple(read_text(part.strip()) for part in parts if part.strip())


def read_pairs(value: object) -> tuple[tuple[str, str], ...]:
    pairs = (
        value.items()
        if isinstance(value, dict)
        else [part.partition("=")[::2] for part in read_names(value)]
    )
    return tuple((read_text(str(key).strip()), read_text(str(text).strip())) for key, text in pairs)


def read_pools(value: object) -> tuple[tuple[str, int], ...]:
    """ "mail:3,web:1", or a table of queues with their places."""
    if isinstance(value, dict):
        value = [f"{queue}:{places}" for queue, places in value.items()]
    pairs = [part.rpartition(":")[::2] for part in read_names(value)]
    if not all(queue and places.isascii() and places.isdigit() for queue, places in pairs):
        raise ValueError("give queues with their places, such as mail:3,web:1")
    if len({queue for queue, _ in pairs}) < len(pairs):
        raise ValueError("a queue is given twice")
    return tuple((queue, read_whole(1)(int(places))) for queue, places in pairs)


def read_users(value: object) -> tuple[tuple[str, str], ...]:
    pairs = read_pairs(value)
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    if not all(name and ":" not in name and _USER.fullmatch(kept) for name, kept in pairs):
        raise ValueError("give name=role:hash, as `sched config credential` prints it")
    return pairs


def read_duration(value: object) -> timedelta:
    if not isinstance(value, str | int | float | timedelta):
        raise ValueError("give a duration such as 90s, 5m, 2h or 1d")
    return parse_duration(value)


def read_positive_duration(value: object) -> timedelta:
    duration = read_duration(value)
    if duration <= timedelta(0):
        raise ValueError("give a duration longer than zero")
    return duration


def read_durations(value: object) -> tuple[timedelta, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        parts = read_names(value)
    return tuple(read_positive_duration(part) for part in parts)


def read_lease(value: object) -> timedelta:
    duration = read_duration(value)
    if duration < timedelta(seconds=1):
        raise ValueError("a lease is at least 1s: it is renewed every third of it")
    return duration


def read_words(value: object) -> tuple[str, ...]:
    """A program and its arguments."""
    try:
        parts = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:  # an open quote
        raise ValueError(f"cannot be split into words: {str(error).lower()}") from None
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError('give a program and its arguments, as in ["/usr/local/bin/tell", "ops"]')
    return tuple(read_text(part) for part in parts)


def read_kinds(value: object) -> tuple[str, ...]:
    names = read_names(value)
    if unknown := [name for name in names if name not in ALERT_KINDS]:
        raise ValueError(f"{unknown[0]} is no kind of alert: give some of {', '.join(ALERT_KINDS)}")
    return names


def read_mail_addresses(value: object) -> tuple[str, ...]:
    return tuple(read_mail_address(name) for name in read_names(value))


def read_mail_address(value: object) -> str:
    address = read_text(value)
    if not re.fullmatch(r"[^@\s<>,]+@[^@\s<>,]+", address):
        raise ValueError("give a mail address such as ops@example.com")
    return address


def read_web_address(value: object) -> str:
    """An address of the web; raises ValueError."""
    address = _address(value, ("https", "http"), "https://hooks.example.com/...")
    if urlsplit(address).username is not None:
        raise ValueError("give an address without a user name: it would not be sent")
    return address


def read_smtp_address(value: object) -> str:
    return _address(value, ("smtp", "smtps"), "smtp://user:password@mail.example.com:587")


def _address(value: object, schemes: tuple[str, ...], example: str) -> str:
    address = read_text(value)
    try:
        parts = urlsplit(address)
        is_good = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address in brackets that is none
        is_good = False
    if not is_good or not address.isascii() or " " in address:
        raise ValueError(f"give an address such as {example}")
    return address
