"""Traces: a span for an enqueue, one for each run, linked; and nothing at all where nobody wants them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy.orm import Session

from cronqueue import Snooze, enqueue, enqueue_many, job, tracing
from cronqueue.testing import SchedQueue
from job_rows import claim_due, execute, recorded_statements

SEND = {
    "messaging.system": "cronqueue",
    "messaging.operation.name": "enqueue",
    "messaging.operation.type": "send",
}


@job(name="traced.act", max_attempts=2, backoff="1m")
def act(error: str | None = None) -> None:
    with trace.get_tracer("user").start_as_current_span("inside"):
        pass
    if error == "snooze":
        raise Snooze("1m")
    if error is not None:
        raise ValueError(error)


@job(name="traced.later", queue="slow")
async def later(session: bool = False) -> None:
    with trace.get_tracer("user").start_as_current_span("inside"):
        await asyncio.sleep(0)


class Traces:
    """What has been traced, by name."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> Any:
        (span,) = self.named(name)
        return span


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    """As a program that has set up a provider."""
    made = Traces()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made.provider)
    monkeypatch.setattr(tracing, "_tracer", None)
    return made


def test_a_run_is_a_trace_of_its_own_that_links_to_its_enqueue(
    sched_queue: SchedQueue, traces: Traces
) -> None:
    with trace.get_tracer("user").start_as_current_span("request"):
        made = act.options(queue="mail").enqueue()
    sched_queue.drain()
    request, sent, ran = (
        traces.one(n) for n in ("request", "enqueue traced.act", "run traced.act")
    )
    assert sent.parent.span_id == request.context.span_id
    assert sent.kind is SpanKind.PRODUCER
    assert dict(sent.attributes) == SEND | {
        "messaging.destination.name": "mail",
        "messaging.message.id": str(made.id),
        "cronqueue.task": "traced.act",
    }
    assert ran.parent is None
    assert [link.context.span_id for link in ran.links] == [sent.context.span_id]
    assert [link.context.trace_id for link in ran.links] == [sent.context.trace_id]
    assert ran.kind is SpanKind.CONSUMER
    assert dict(ran.attributes) == {
        "messaging.system": "cronqueue",
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(made.id),
        "cronqueue.task": "traced.act",
        "cronqueue.attempt": 1,
    }
    assert ran.status.status_code is StatusCode.UNSET


def test_what_was_current_before_is_no_part_of_a_run_and_is_so_again(
    sched_queue: SchedQueue, traces: Traces
) -> None:
    act.enqueue()
    (claimed,) = claim_due(sched_queue.database)
    with trace.get_tracer("user").start_as_current_span("around") as around:
        run = tracing.begin_run(claimed)
        assert run is not None
        assert trace.get_current_span() is not around
        run.end(None, detach=True)
        assert trace.get_current_span() is around
    assert traces.one("run traced.act").parent is None


@pytest.mark.parametrize("task", [act, later], ids=["in a thread", "async"])
def test_what_the_body_traces_is_part_of_the_run(
    sched_queue: SchedQueue, traces: Traces, task: Any
) -> None:
    task.enqueue()
    sched_queue.drain()
    inside, ran = traces.one("inside"), traces.one(f"run {task.name}")
    assert inside.parent.span_id == ran.context.span_id
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_every_attempt_has_its_span_and_a_failed_one_its_error(
    sched_queue: SchedQueue, traces: Traces
) -> None:
    act.enqueue("broken")
    sched_queue.drain()
    sched_queue.advance("1h")
    first, second = traces.named("run traced.act")
    assert [span.attributes["cronqueue.attempt"] for span in (first, second)] == [1, 2]  # type: ignore[index]
    for span in (first, second):
        assert span.status.status_code is StatusCode.ERROR
        assert dict(span.attributes or {})["error.type"] == "ValueError"
        (event,) = span.events
        assert dict(event.attributes or {})["exception.message"] == "broken"


def test_a_job_that_is_put_off_has_not_failed(sched_queue: SchedQueue, traces: Traces) -> None:
    act.enqueue("snooze")
    sched_queue.drain()
    ran = traces.one("run traced.act")
    assert (ran.status.status_code, ran.events) == (StatusCode.UNSET, ())


def test_a_bulk_is_one_span_to_which_all_of_it_links(
    sched_queue: SchedQueue, traces: Traces
) -> None:
    enqueue_many([act.call(), act.call(), act.options(key="k").call()])
    sched_queue.drain()
    sent = traces.one("enqueue traced.act")
    assert sent.attributes["messaging.batch.message_count"] == 3
    ran = traces.named("run traced.act")
    links = [link.context.span_id for span in ran for link in span.links]
    assert links == [sent.context.span_id] * 3


def test_a_bulk_of_several_tasks_names_none(sched_queue: SchedQueue, traces: Traces) -> None:
    enqueue_many([act.call(), later.call()])
    sent = traces.one("enqueue")
    assert dict(sent.attributes) == SEND | {"messaging.batch.message_count": 2}


def test_an_enqueue_in_a_transaction_of_the_callers_is_traced(
    sched_queue: SchedQueue, traces: Traces
) -> None:
    with Session(sched_queue.database.engine) as session:
        act.options(session=session).enqueue()
        session.commit()
    sched_queue.drain()
    (link,) = traces.one("run traced.act").links
    assert link.context.span_id == traces.one("enqueue traced.act").context.span_id


def test_what_cannot_be_stored_ends_its_span_as_failed(
    sched_queue: SchedQueue, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("full")

    monkeypatch.setattr("cronqueue.enqueueing._store_alone", refuse)
    with pytest.raises(RuntimeError):
        act.enqueue()
    assert traces.one("enqueue traced.act").status.status_code is StatusCode.ERROR


def test_tags_stay_and_one_of_the_callers_own_wins(sched_queue: SchedQueue, traces: Traces) -> None:
    act.options(tags={"customer": "acme"}).enqueue()
    act.options(tags={"traceparent": "mine"}).enqueue()
    first, second = (json.loads(each.tags_json or "") for each in sched_queue.jobs())
    assert first["customer"] == "acme"
    assert first["traceparent"].startswith("00-")
    assert second == {"traceparent": "mine"}


@pytest.mark.parametrize("tags", ['{"traceparent": 7}', '{"traceparent": "x"}', "[]", "7", "null"])
def test_tags_of_any_kind_stop_no_job(sched_queue: SchedQueue, traces: Traces, tags: str) -> None:
    enqueue("traced.act")
    execute(sched_queue.database, "UPDATE sched_jobs SET tags = :tags", tags=tags)
    (ran,) = sched_queue.drain()
    assert ran.state == "succeeded"
    assert traces.one("run traced.act").links == ()


def test_a_receiver_of_spans_that_fails_fails_no_job(
    sched_queue: SchedQueue, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    act.enqueue()

    class Broken:
        def start_span(self, *_: object) -> None:
            raise RuntimeError("no room")

    monkeypatch.setattr(tracing, "_tracer", Broken())
    (ran,) = sched_queue.drain()
    assert ran.state == "succeeded"


def test_without_a_provider_nothing_is_read_or_written(sched_queue: SchedQueue) -> None:
    with recorded_statements(sched_queue.database) as seen:
        act.enqueue()
        (ran,) = sched_queue.drain()
    assert ran.tags_json is None
    claims = [
        statement for statement, _ in seen if "'running'" in statement and "UPDATE" in statement
    ]
    assert claims
    assert not any("CAST(tags" in statement for statement in claims)


def test_it_is_on_from_when_the_program_has_set_up_a_provider() -> None:
    code = """if True:
        import sys
        import cronqueue, cronqueue.enqueueing, cronqueue.execution
        from cronqueue import tracing
        print(tracing.is_on(), any(name.startswith("opentelemetry") for name in sys.modules))
        from opentelemetry import trace
        print(tracing.is_on())
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        print(tracing.is_on())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "True"]
