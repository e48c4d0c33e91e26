"""What took long to count is remembered, what came fast is asked anew."""

from __future__ import annotations

from cronsched.web.memory import LONGEST, REST, Memory


class Counting:
    """A question whose answers are numbers, on a clock that it lets go on."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds, self.count = 100.0, seconds, 0

    def __call__(self) -> int:
        self.now += self.seconds
        self.count += 1
        return self.count


def test_what_comes_fast_is_always_fresh() -> None:
    asked = Counting(0.01)
    memory = Memory(lambda: asked.now)
    assert [memory.ask("q", asked) for _ in range(3)] == [1, 2, 3]


def test_what_took_long_is_kept_for_a_time_that_follows_from_its_cost() -> None:
    asked = Counting(2.0)
    memory = Memory(lambda: asked.now)
    assert [memory.ask("q", asked) for _ in range(3)] == [1, 1, 1]
    asked.now += 2.0 * REST - 0.1
    assert memory.ask("q", asked) == 1
    asked.now += 0.2
    assert memory.ask("q", asked) == 2


def test_nothing_is_kept_for_longer_than_a_minute() -> None:
    asked = Counting(30.0)
    memory = Memory(lambda: asked.now)
    memory.ask("q", asked)
    asked.now += LONGEST
    assert memory.ask("q", asked) == 2


def test_what_machines_ask_for_is_kept_although_it_came_fast() -> None:
    asked = Counting(0.3)
    memory = Memory(lambda: asked.now)
    assert [memory.ask("q", asked, at_least=4.0) for _ in range(2)] == [1, 1]
    asked.now += 0.3 * REST - 0.1
    assert memory.ask("q", asked, at_least=4.0) == 1
    asked.now += 0.2
    asked.seconds = 0.001
    assert memory.ask("q", asked, at_least=4.0) == 2
    asked.now += 3.9
    assert memory.ask("q", asked, at_least=4.0) == 2
    asked.now += 0.2
    assert memory.ask("q", asked, at_least=4.0) == 3


def test_an_act_makes_everything_fresh() -> None:
    asked = Counting(2.0)
    memory = Memory(lambda: asked.now)
    memory.ask("q", asked)
    memory.forget()
    assert memory.ask("q", asked) == 2
