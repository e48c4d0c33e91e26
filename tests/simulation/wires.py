"""What processes and threads are made of, for actors: time, threads, queues, pipes.

`substitutes` names what the core's modules get instead of the standard library's for as long as a
simulation runs. It is all that is not the real thing; docs/reliability.md says what that leaves out.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from random import Random
from typing import Any
from unittest.mock import patch

from cronqueue.registry import find_task
from simulation.world import Actor, World, me, park, sleep, wake


class Bell:
    """What rings once for whoever waits, or comes next."""

    def __init__(self) -> None:
        self._waiting: list[Actor] = []
        self._has_rung = False

    def ring(self) -> None:
        self._has_rung = True
        for actor in self._waiting:
            wake(actor)

    def wait(self, seconds: float | None = None) -> None:
        """Until it rings, or for so long."""
        if not self._has_rung:
            actor = me()
            self._waiting.append(actor)
            try:
                park(seconds)
            finally:
                self._waiting.remove(actor)
        self._has_rung = False


class VirtualEvent:
    """`threading.Event`, for who asks now and then."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def wait(self, seconds: float) -> bool:
        if not self._is_set:
            sleep(seconds)
        return self._is_set


class BusyLoop(Exception):
    """Somebody looks again and again, and nothing has changed."""


class VirtualQueue:
    """`queue.SimpleQueue`. Who looks without waiting takes a little time, and must not do it for long."""

    _LOOK, _MOST_LOOKS = 0.001, 100

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._bell = Bell()
        self._looks = 0

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._bell.ring()

    def get(self, timeout: float | None = None) -> Any:
        world = me().process.world
        if not self._items and timeout == 0:
            self._looks += 1
            if self._looks > self._MOST_LOOKS:
                raise BusyLoop(f"looked {self._looks} times in a row")
            sleep(self._LOOK)
        else:
            self._looks = 0
        until = None if timeout is None else world.now + timeout
        while not self._items:
            if until is not None and world.now >= until:
                raise queue.Empty
            self._bell.wait(None if until is None else until - world.now)
        return self._items.popleft()

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items


class PipeEnd:
    """One end of `multiprocessing.Pipe`; what is on its way when the other end dies still arrives."""

    def __init__(self) -> None:
        self.other: PipeEnd
        self.bell = Bell()
        self._arrived: deque[Any] = deque()
        self._is_broken = False

    def send(self, message: Any) -> None:
        if self._is_broken:
            raise OSError("nobody is at the other end")
        self.other._arrived.append(message)
        self.other.bell.ring()

    def poll(self) -> bool:
        return bool(self._arrived) or self._is_broken

    def receive(self) -> list[Any]:
        """What a supervisor has from it, without waiting."""
        if self._is_broken and not self._arrived:
            raise EOFError
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def recv(self) -> Any:
        while not self._arrived:
            if self._is_broken:
                raise EOFError
            self.bell.wait()
        return self._arrived.popleft()

    def hang_up(self) -> None:
        """This end's process is gone."""
        self.other._is_broken = True
        self.other.bell.ring()

    def close(self) -> None: ...


def pipe() -> tuple[PipeEnd, PipeEnd]:
    ours, theirs = PipeEnd(), PipeEnd()
    ours.other, theirs.other = theirs, ours
    return ours, theirs


class VirtualTime:
    """The module `time`, as the machine of whoever asks has it."""

    CLOCK_MONOTONIC = "CLOCK_MONOTONIC"
    CLOCK_BOOTTIME = "CLOCK_BOOTTIME"

    def monotonic(self) -> float:
        return me().process.machine.monotonic()

    def clock_gettime(self, clock: object) -> float:
        """Only `cronqueue.clock.boottime` asks so."""
        return me().process.machine.boottime()

    def sleep(self, seconds: float) -> None:
        sleep(seconds)


class VirtualThreading:
    """The module `threading`."""

    Lock = threading.Lock
    RLock = threading.RLock
    Event = threading.Event

    class Thread:
        def __init__(
            self,
            *,
            target: Callable[..., Any],
            args: tuple[Any, ...] = (),
            name: str = "",
            daemon: bool = False,
        ) -> None:
            self._run = lambda: target(*args)
            self._name = name

        def start(self) -> None:
            process = me().process
            process.spawn(self._run, f"{process.name}/{self._name}")

    def get_ident(self) -> int:
        return me().ident


class VirtualOs:
    """Of the module `os` only what ends a process, or tells it from its children."""

    getpid = staticmethod(os.getpid)

    def _exit(self, code: int) -> None:
        me().process.kill(f"exited with code {code}")


class VirtualQueueModule:
    """The module `queue`."""

    SimpleQueue = VirtualQueue
    Empty = queue.Empty


class SeededSecrets:
    """The module `secrets`, with names that can be read and come again."""

    def __init__(self, world: World) -> None:
        self._world = world

    def token_urlsafe(self, size: int) -> str:
        return f"token-{next(self._world.numbers)}"

    def token_hex(self, size: int) -> str:
        return f"{me().process.name}-{next(self._world.numbers)}"


def raise_in_actor(ident: int, exception: type[BaseException] | None) -> None:
    """What `PyThreadState_SetAsyncExc` does; a body notices it when it waits."""
    for actor in me().process.actors:
        if actor.ident == ident and not actor.dead:
            actor.raises = exception
            if exception is not None:
                wake(actor)


def find_task_here(name: str) -> Any:
    """`registry.find_task`, as the release of this process answers."""
    return None if name in me().process.unknown_tasks else find_task(name)


def fingerprint_here(folder: object) -> Any:
    """`imports.fingerprint` of the folder of this daemon."""
    files = me().process.files
    assert files is not None
    return files().hash


@contextmanager
def substitutes(world: World) -> Iterator[None]:
    """Put the virtual things in their places."""
    time, threads, queues = VirtualTime(), VirtualThreading(), VirtualQueueModule()
    seeded, secret = Random(f"{world.seed}/random"), SeededSecrets(world)
    places: dict[str, dict[str, Any]] = {
        "cronqueue.clock": {"time": time},
        "cronqueue.database": {"time": time, "random": seeded},
        "cronqueue.claim": {"secrets": secret},
        "cronqueue.exchange": {"time": time},
        "cronqueue.rescue": {"random": seeded},
        "cronqueue.execution": {"time": time, "random": seeded, "os": VirtualOs()},
        "cronqueue.interrupts": {"threading": threads, "_raise_in_thread": raise_in_actor},
        "cronqueue.correspondence": {"time": time, "find_task": find_task_here},
        "cronqueue.courier": {"threading": threads, "queue": queues},
        "cronqueue.pool": {"time": time, "threading": threads, "queue": queues},
        "cronqueue.executor": {
            "time": time,
            "threading": threads,
            "queue": queues,
            "os": VirtualOs(),
        },
        "cronqueue.children": {"_has_room": lambda pipe: True},
        "cronqueue.supervisor": {"time": time},
        "cronqueue.housekeeping": {"random": seeded},
        "cronqueue.configuration": {"get_database": lambda: me().process.database},
        "cronsched.daemon": {
            "time": time,
            "secrets": secret,
            "fingerprint": fingerprint_here,
            "writable_by_group": lambda folder: (),
        },
        "cronsched.backfill": {"secrets": secret},
    }
    with patch.multiple("cronqueue.wakeup", notify=lambda database: None):
        patches = [patch.multiple(import_module(name), **values) for name, values in places.items()]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()
