"""A throttle on wrong passwords: some at once, then one now and then; for each address, and in all.

It counts in memory, so that a guess costs the database nothing. Each count is one number, the moment at which
all tries will have been forgotten (the generic cell rate algorithm).
"""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass, field

# Addresses that are remembered. Where there are more, the limit on all of them still holds.
MOST_ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` tries at once; one of them is forgotten every so many seconds."""

    burst: int
    seconds: float

    def wait(self, forgotten_at: float, now: float) -> float:
        """Seconds until one more may be made; 0 when at once."""
        return max(forgotten_at - now - (self.burst - 1) * self.seconds, 0.0)

    def after(self, forgotten_at: float, now: float) -> float:
        """When all will be forgotten, after one more try."""
        return max(forgotten_at, now) + self.seconds


# A person mistypes some times; a program that guesses gets 2,880 a day from one address.
EACH = Limit(10, 30.0)
# All together, from however many addresses: 86,400 a day.
ALL = Limit(100, 1.0)


@dataclass(slots=True)
class Throttle:
    """Who has tried how often, and may try again. Times are seconds of any clock that never goes back."""

    each: Limit = EACH
    all: Limit = ALL
    _by_address: dict[str, float] = field(default_factory=dict)
    _in_all: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, address: str, now: float) -> float:
        """Count a try and return 0, or the seconds for which this address has to wait.

        It counts before it is known whether the try was right: many at the same time would all pass else.
        """
        key = network_of(address)
        with self._lock:
            counted = self._by_address.get(key, 0.0)
            if wait := max(self.each.wait(counted, now), self.all.wait(self._in_all, now)):
                return wait
            self._make_room(key, now)
            self._by_address[key] = self.each.after(counted, now)
            self._in_all = self.all.after(self._in_all, now)
            return 0.0

    def give_back(self, address: str) -> None:
        """The try was right: it does not count."""
        key = network_of(address)
        with self._lock:
            if key in self._by_address:
                self._by_address[key] -= self.each.seconds
            self._in_all -= self.all.seconds

    def _make_room(self, key: str, now: float) -> None:
        if key in self._by_address or len(self._by_address) < MOST_ADDRESSES:
            return
        for each in [one for one, moment in self._by_address.items() if moment <= now]:
            del self._by_address[each]
        if len(self._by_address) >= MOST_ADDRESSES:
            del self._by_address[next(iter(self._by_address))]


def network_of(address: str) -> str:
    """What one person has: an address, or the 2^64 of an IPv6 network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
