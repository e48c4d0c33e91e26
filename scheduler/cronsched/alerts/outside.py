"""One request to an address that somebody has configured, and to no other.

The name is resolved once, every address that it has is checked, and the connection goes to one of those: a
name that answers otherwise a moment later reaches nothing. Redirects are not followed, the answer's body is
not read, and the whole may take `TIMEOUT`, however slowly the other side speaks.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from cronqueue.errors import CronqueueError
from cronqueue.version import __version__

# Seconds for connecting, and for all of it.
CONNECT_TIMEOUT, TIMEOUT = 5.0, 15.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotSent(CronqueueError):
    """A channel has not taken the message; says why, without the secrets in its address."""


def request(
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    allow: Sequence[str] = (),
) -> None:
    """GET, or POST of a body. Raises NotSent, unless the answer is a success."""
    parts = urlsplit(url)
    host, is_secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = {"User-Agent": f"cronqueue/{__version__}", "Connection": "close", **(headers or {})}
    try:
        with _connected(checked(host, port, allow), host, is_secure=is_secure) as channel:
            connection = http.client.HTTPConnection(host, port)
            connection.sock = channel
            connection.request("GET" if body is None else "POST", target, body, sent)
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotSent(f"{host} cannot be reached: {str(error) or type(error).__name__}") from None
    if not 200 <= status < 300:
        where = ", and redirects are not followed" if 300 <= status < 400 else ""
        raise NotSent(f"{host} answers {status}{where}")


def checked(host: str, port: int, allow: Sequence[str]) -> list[tuple[Address, int]]:
    """The addresses of a host, all of them public or allowed. Raises NotSent, OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(
        dict.fromkeys(ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found)
    )
    if host.lower() not in allow:
        for each in addresses:
            if not is_public(each) and not _is_within(each, allow):
                raise NotSent(
                    f"{host} has the address {each}, which is not public:"
                    " name the host or its network in alerts_allow"
                )
    return [(each, port) for each in addresses]


def is_public(address: Address) -> bool:
    """Whether it is of the internet at large, and no IPv6 form of one that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or _translated(address)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


# What a gateway translates into IPv4 (RFC 6052, RFC 8215).
_TRANSLATED = [ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48")]


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _is_within(address: Address, allow: Sequence[str]) -> bool:
    for each in allow:
        with contextlib.suppress(ValueError):  # a name
            if address in ipaddress.ip_network(each, strict=False):
                return True
    return False


@contextmanager
def _connected(
    addresses: Sequence[tuple[Address, int]], host: str, *, is_secure: bool
) -> Iterator[socket.socket]:
    """A connection to the first address that answers, cut off when the time is up."""
    channel = _first(addresses)
    if is_secure:
        context = ssl.create_default_context()
        channel = context.wrap_socket(channel, server_hostname=host, do_handshake_on_connect=False)
    watch = threading.Timer(TIMEOUT, _cut, (channel,))
    watch.daemon = True
    watch.start()
    try:
        if isinstance(channel, ssl.SSLSocket):
            channel.do_handshake()
        yield channel
    finally:
        watch.cancel()
        channel.close()


def _first(addresses: Sequence[tuple[Address, int]]) -> socket.socket:
    failure: OSError = OSError("it has no address")
    for address, port in addresses[:4]:
        try:
            made = socket.create_connection((str(address), port), CONNECT_TIMEOUT)
        except OSError as error:
            failure = error
        else:
            made.settimeout(TIMEOUT)
            return made
    raise failure


def _cut(channel: socket.socket) -> None:
    """Past TLS, whose own farewell would wait for the other side's."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(channel, socket.SHUT_RDWR)
