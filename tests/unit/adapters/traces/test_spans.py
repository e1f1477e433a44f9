"""One trace per incident, whoever makes its spans; times are the records' own, and nothing from outside is in them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.contextvars import bound_contextvars

from bot.adapters.traces import SpanMeter, exporting, provider_for
from bot.model import (
    AlertState,
    DeliveryId,
    ExecutionState,
    IncidentId,
    IncidentState,
    OperationId,
    Preview,
    ProposalState,
    Relapse,
    RiskClass,
    Stage,
    StageRun,
    StageState,
)
from bot.ports import Call, Change, Commit, End, Stored, System
from bot.settings import TraceSettings
from tests.integration import store_records as records

NOW = records.NOW
EVIL = "xoxb-secret <!channel> \u202e"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def commit(*after: Stored, before: Sequence[Stored] = ()) -> Commit:
    known = {one.id: one for one in before}
    return Commit(tuple(Change(known.get(one.id), one) for one in after), ())


class Traced:
    def __init__(self) -> None:
        provider = provider_for("1")
        self._kept = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.meter = SpanMeter(provider)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        found = self._kept.get_finished_spans()
        assert len({span.name for span in found}) == len(found), "every name once"
        return {span.name: span for span in found}

    def all(self) -> list[tuple[str, int, int]]:
        return [
            (one.name, one.context.trace_id, one.context.span_id)
            for one in self._kept.get_finished_spans()
            if one.context
        ]


def story(meter: SpanMeter) -> None:
    """An alert, its diagnosis, its approval, and a repair whose second stage is not verified."""
    incident = records.incident().model_copy(update={"opened_at": at(1), "title": EVIL, "labels": {"a": EVIL}})
    delivery = records.delivery().model_copy(update={"processed_at": at(1), "body": EVIL})
    alert = records.alert(incident_id=incident.id).model_copy(update={"state": AlertState.FIRING, "name": EVIL})
    meter.committed(commit(delivery, incident, alert, before=[records.delivery()]))
    with bound_contextvars(incident=incident.id):
        meter.called(Call(System.NATS, "gather", End.OK, 0.5, "prod"))
        meter.called(Call(System.NATS, "stream_info", End.OK, 0.5, "prod"))
    meter.called(Call(System.NATS, "gather", End.OK, 0.5, "prod"))
    diagnosis = records.diagnosis().model_copy(update={"started_at": at(2), "ended_at": at(4)})
    meter.committed(commit(diagnosis, incident, before=[incident]))
    meter.shown(incident, at(5))
    preview = Preview(summary=EVIL, blast_radius=EVIL, way_back=EVIL)
    stages = tuple(
        Stage(kind=kind, params={"x": EVIL}, risk=RiskClass.LOW, preview=preview) for kind in ("one", "two", "three")
    )
    offered = records.proposal().model_copy(update={"created_at": at(4), "title": EVIL, "stages": stages})
    approved = offered.model_copy(update={"state": ProposalState.APPROVED})
    yes = records.approval().model_copy(update={"at": at(60), "reason": EVIL})
    meter.committed(commit(yes, incident, approved, records.execution(), before=[incident, offered]))
    runs = (
        StageRun(
            index=0,
            state=StageState.VERIFIED,
            operation_id=OperationId("op_0"),
            intended_at=at(61),
            applied_at=at(62),
            ended_at=at(65),
            sent=1,
            sentence=EVIL,
        ),
        StageRun(
            index=1,
            state=StageState.NOT_APPLIED,
            operation_id=OperationId("op_1"),
            intended_at=at(66),
            ended_at=at(67),
            sent=1,
            sentence=EVIL,
        ),
        StageRun(index=2, state=StageState.SKIPPED, operation_id=OperationId("op_2")),
    )
    begun = records.execution(state=ExecutionState.APPLYING).model_copy(
        update={"started_at": at(60), "stages": runs[:1]}
    )
    over = begun.model_copy(
        update={"state": ExecutionState.FAILED, "stages": runs, "ended_at": at(68), "sentence": EVIL}
    )
    meter.committed(commit(begun, incident, before=[begun, incident]))
    meter.committed(commit(over, approved, incident, before=[begun, approved, incident]))
    meter.committed(commit(over, incident, before=[over, incident]))


def test_an_incident_is_one_trace_from_its_alert_to_the_end_of_its_repair() -> None:
    traced = Traced()
    story(traced.meter)
    names = [name for name, _, _ in traced.all()]
    assert names == [
        "alert",
        "intake",
        "diagnosis",
        "gather",
        "thread",
        "approval",
        "execution",
        "stage",
        "verify",
        "stage",
    ]
    assert len({trace for _, trace, _ in traced.all()}) == 1
    assert len({span for _, _, span in traced.all()}) == len(names)


def test_spans_have_the_times_of_the_records_and_lie_below_what_they_belong_to() -> None:
    traced = Traced()
    story(traced.meter)
    found = {span.name: span for span in reversed(traced._kept.get_finished_spans())}

    def lasted(name: str) -> float:
        span = found[name]
        assert span.start_time is not None
        assert span.end_time is not None
        return (span.end_time - span.start_time) / 1e9

    lengths = {
        "alert": 1,
        "intake": 1,
        "diagnosis": 2,
        "gather": 0.5,
        "thread": 4,
        "approval": 56,
        "execution": 8,
        "stage": 1,
        "verify": 3,
    }
    assert {name: lasted(name) for name in lengths} == pytest.approx(lengths)
    above = {"intake": "alert", "diagnosis": "alert", "gather": "diagnosis", "thread": "alert", "approval": "diagnosis"}
    for name, parent in (above | {"execution": "alert", "stage": "execution", "verify": "execution"}).items():
        context, link = found[parent].context, found[name].parent
        assert context is not None
        assert link is not None
        assert link.span_id == context.span_id, name
    assert found["alert"].parent is None


def test_a_stage_that_did_not_succeed_is_an_error_without_its_words() -> None:
    traced = Traced()
    story(traced.meter)
    stages = [one for one in traced._kept.get_finished_spans() if one.name == "stage"]
    assert [one.status.status_code for one in stages] == [StatusCode.UNSET, StatusCode.ERROR]
    assert [one.status.description for one in stages] == [None, None]
    assert [(one.attributes or {})["natsmedic.action"] for one in stages] == ["one", "two"]


def test_nothing_from_outside_is_in_a_span() -> None:
    traced = Traced()
    story(traced.meter)
    text = "".join(span.to_json() for span in traced._kept.get_finished_spans())
    assert "natsmedic.execution" in text
    for word in ("xoxb", "channel", "ORDERS", "ana", "looked at it"):
        assert word not in text


def test_another_replica_makes_the_same_ids() -> None:
    one, other = Traced(), Traced()
    story(one.meter)
    story(other.meter)
    assert one.all() == other.all()


def test_a_relapse_goes_on_in_the_same_trace_below_its_first_alert() -> None:
    traced = Traced()
    first = records.incident()
    relapse = Relapse(number=1, at=at(100), after=IncidentState.CLEARED)
    again = first.model_copy(update={"relapses": (relapse,)})
    traced.meter.committed(commit(first, records.alert(incident_id=first.id)))
    late = records.alert("2", incident_id=first.id).model_copy(
        update={"received_at": at(99), "delivery_id": DeliveryId("dlv_2")}
    )
    traced.meter.committed(commit(again, late, before=[first]))
    (_, trace, root), (name, same, span) = traced.all()
    assert (name, same) == ("alert", trace)
    assert span != root


def test_looks_at_clusters_whose_diagnosis_never_came_are_forgotten() -> None:
    traced = Traced()
    for number in range(300):
        with bound_contextvars(incident=IncidentId(f"inc_{number}")):
            traced.meter.called(Call(System.NATS, "gather", End.FAILED, 0.5, "prod"))
    assert len(traced.meter._looks) == 256


async def test_a_collector_gets_the_spans_when_the_bot_stops() -> None:
    got: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        async with exporting(TraceSettings(endpoint=f"http://127.0.0.1:{server.server_port}"), "1") as meter:
            story(meter)
        await asyncio.to_thread(server.shutdown)
        thread.join()
    assert {path for path, _ in got} == {"/v1/traces"}
    sent = b"".join(body for _, body in got)
    assert b"verify" in sent
    assert b"xoxb" not in sent


def test_without_traces_nothing_of_them_is_imported() -> None:
    asked = "import sys, bot.bootstrap.serving; print([m for m in sys.modules if m.startswith(('bot.adapters.traces', 'opentelemetry.sdk'))])"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "[]"
