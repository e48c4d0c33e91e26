"""The throttle on wrong passwords."""

from __future__ import annotations

import pytest

from cronsched.web import throttle
from cronsched.web.throttle import Limit, Throttle, network_of


def test_some_tries_are_free_and_then_each_has_to_wait() -> None:
    made = Throttle(each=Limit(3, 10.0), all=Limit(100, 1.0))
    assert [made.take("a", 0.0) for _ in range(4)] == [0, 0, 0, 10]
    assert made.take("a", 4.0) == 6
    assert made.take("a", 10.0) == 0
    assert made.take("a", 10.0) == 10


def test_who_has_to_wait_does_not_wait_longer_for_having_asked() -> None:
    made = Throttle(each=Limit(1, 10.0))
    made.take("a", 0.0)
    assert [made.take("a", 1.0) for _ in range(5)] == [9] * 5


def test_one_address_does_not_count_for_another() -> None:
    made = Throttle(each=Limit(1, 10.0))
    assert (made.take("a", 0.0), made.take("b", 0.0)) == (0, 0)


def test_all_addresses_together_have_a_limit_too() -> None:
    made = Throttle(each=Limit(1, 10.0), all=Limit(3, 1.0))
    assert [made.take(str(each), 0.0) for each in range(4)] == [0, 0, 0, 1]


def test_a_right_try_does_not_count() -> None:
    made = Throttle(each=Limit(1, 10.0), all=Limit(1, 10.0))
    for _ in range(5):
        assert made.take("a", 0.0) == 0
        made.give_back("a")


def test_the_addresses_of_one_ipv6_network_count_as_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"


def test_it_remembers_so_many_addresses_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST_ADDRESSES", 3)
    made = Throttle(each=Limit(1, 10.0))
    for each in range(10):
        assert made.take(str(each), 0.0) == 0
    assert len(made._by_address) == 3
    assert made.take("9", 0.0) == 10
