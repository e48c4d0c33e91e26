"""Traces, where the program has set up OpenTelemetry: a span where jobs are enqueued, one where each runs.

A run is a trace of its own that links to the span of its enqueue: days may lie between them. Names and
attributes follow OpenTelemetry's conventions for messaging, with the task in the place of the destination's
name, since tasks are what differs. What links them is the tag `traceparent`, in W3C's form.

Nothing is imported here before somebody else has done so: without OpenTelemetry, or without a provider of
traces, all of this is one look into a dict.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from cronqueue.version import __version__

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.trace import Link, Span, Tracer

    from cronqueue.claim import Claimed

TRACEPARENT = "traceparent"
# How long the end of a process may wait for its last spans to be handed over.
FLUSH_MILLISECONDS = 5_000

log = logging.getLogger("cronqueue.tracing")

_tracer: Tracer | None = None


def is_on() -> bool:
    """Whether spans go anywhere."""
    return _tracer is not None or _find_tracer() is not None


class Enqueue:
    """The span of an enqueue, while it is open."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def tagged(self, tags_json: str | None) -> str | None:
        """The tags of a job with the one that leads here; one of the caller's own stays."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        if TRACEPARENT not in carrier:
            return tags_json
        tags = {} if tags_json is None else json.loads(tags_json)
        return json.dumps({TRACEPARENT: carrier[TRACEPARENT]} | tags)

    def made(self, job_id: int) -> None:
        """Which job it became."""
        self._span.set_attribute("messaging.message.id", str(job_id))


@contextmanager
def enqueueing(tasks: set[str], queues: set[str], jobs: int | None = None) -> Iterator[Enqueue]:
    """A span round the enqueue of one job, or of a number of them; an exception ends it as failed.

    To be called where `is_on`.
    """
    from opentelemetry.trace import SpanKind

    assert _tracer is not None
    attributes: dict[str, Any] = {
        "messaging.system": "cronqueue",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    if len(queues) == 1:
        attributes["messaging.destination.name"] = next(iter(queues))
    if len(tasks) == 1:
        attributes["cronqueue.task"] = next(iter(tasks))
    if jobs is not None:
        attributes["messaging.batch.message_count"] = jobs
    name = f"enqueue {next(iter(tasks))}" if len(tasks) == 1 else "enqueue"
    with _tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes) as span:
        yield Enqueue(span)


class Run:
    """The span of a run, which is current until it ends."""

    def __init__(self, span: Span, token: Token[Any]) -> None:
        self._span = span
        self._token = token

    def end(self, error: BaseException | None, *, detach: bool) -> None:
        """The attempt has ended, by an exception if there is one.

        Without `detach` the thread is another than at the start; what was current ends with its task.
        """
        from opentelemetry import context
        from opentelemetry.trace import StatusCode

        try:
            if error is not None:
                self._span.set_attribute("error.type", type(error).__qualname__)
                self._span.record_exception(error)
                self._span.set_status(StatusCode.ERROR, str(error))
            self._span.end()
        except Exception as fault:
            _tell_lost(fault)
        if detach:
            context.detach(self._token)


def begin_run(claimed: Claimed) -> Run | None:
    """The span of this attempt, current in this thread or asyncio task; None where tracing is off."""
    if _tracer is None and "opentelemetry.trace" not in sys.modules:
        return None  # the way of most, as short as it can be
    try:
        return _begin_run(claimed) if is_on() else None
    except Exception as fault:
        _tell_lost(fault)
        return None


def flush() -> None:
    """Hand over what has ended: the process is about to."""
    if _tracer is None:
        return
    from opentelemetry import trace

    force = getattr(trace.get_tracer_provider(), "force_flush", None)
    try:
        if force is not None:
            force(FLUSH_MILLISECONDS)
    except Exception as fault:
        _tell_lost(fault)


def _find_tracer() -> Tracer | None:
    """The tracer, if somebody in this program has set up a provider."""
    global _tracer
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    provider = api.get_tracer_provider()
    if not isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        _tracer = provider.get_tracer("cronqueue", __version__)
    return _tracer


def _begin_run(claimed: Claimed) -> Run:
    from opentelemetry import context
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, set_span_in_context

    assert _tracer is not None
    attributes: dict[str, Any] = {
        "messaging.system": "cronqueue",
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.destination.name": claimed.queue,
        "messaging.message.id": str(claimed.id),
        "cronqueue.task": claimed.task,
        "cronqueue.attempt": claimed.attempt,
    }
    if claimed.schedule is not None:
        attributes["cronqueue.schedule"] = claimed.schedule
    span = _tracer.start_span(
        f"run {claimed.task}",
        Context(),  # whatever this thread did before is no part of it
        SpanKind.CONSUMER,
        attributes,
        _links(claimed.tags_json),
    )
    return Run(span, context.attach(set_span_in_context(span)))


def _links(tags_json: str | None) -> list[Link]:
    """To the span of the enqueue, if there was one; tags may hold anything."""
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    with suppress(ValueError):
        tags = json.loads(tags_json or "null")
        if isinstance(tags, Mapping) and isinstance(tags.get(TRACEPARENT), str):
            carrier = {TRACEPARENT: tags[TRACEPARENT]}
            found = get_current_span(TraceContextTextMapPropagator().extract(carrier))
            if (origin := found.get_span_context()).is_valid:
                return [Link(origin)]
    return []


def _tell_lost(error: Exception) -> None:
    """A fault of whoever receives the spans must not become one of the job's."""
    log.warning("a span of a job was lost", exc_info=error)
