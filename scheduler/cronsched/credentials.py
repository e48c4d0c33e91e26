"""Credentials: how passwords and tokens of the web are kept, and how one is compared with what is kept.

A password is chosen by a person and can be guessed, so it is kept as scrypt, which makes each guess dear. A
token is 256 random bits, which nobody guesses: one SHA-256 is enough.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

# Of OWASP's list: 2^14 blocks of 1 KiB, five times; 16 MiB and some tenths of a second.
COST = (14, 8, 5)
_SALT_BYTES = 16
_SCRYPT = re.compile(r"scrypt-(\d{1,2})-(\d{1,2})-(\d{1,2})\.([\w-]+)\.([\w-]+)", re.ASCII)
_SHA256 = re.compile(r"sha256\.([0-9a-f]{64})", re.ASCII)


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(32)


def keep_password(password: str, cost: tuple[int, int, int] = COST) -> str:
    """What is kept of a password; `cost` are scrypt's log2(N), r and p."""
    salt = secrets.token_bytes(_SALT_BYTES)
    numbers = "-".join(map(str, cost))
    return f"scrypt-{numbers}.{_encode(salt)}.{_encode(_scrypt(password, salt, cost))}"


def keep_token(token: str) -> str:
    """What is kept of a token."""
    return f"sha256.{hashlib.sha256(token.encode()).hexdigest()}"


def is_password(password: str, kept: str) -> bool:
    """Whether it is the password of which this is kept; of a token it never is."""
    found = _SCRYPT.fullmatch(kept)
    if found is None:
        return False
    n, r, p, salt, key = found.groups()
    made = _scrypt(password, _decode(salt), (int(n), int(r), int(p)))
    return hmac.compare_digest(made, _decode(key))


def is_token(token: str, kept: str) -> bool:
    """Whether it is the token of which this is kept; of a password it never is."""
    return _SHA256.fullmatch(kept) is not None and hmac.compare_digest(keep_token(token), kept)


def same(given: str, known: str) -> bool:
    """Compare two texts in a time that does not tell how much of them is equal."""
    return hmac.compare_digest(given.encode(), known.encode())


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    log_n, r, p = cost
    room = 128 * r * (2**log_n + p + 2)
    return hashlib.scrypt(password.encode(), salt=salt, n=2**log_n, r=r, p=p, dklen=32, maxmem=room)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
