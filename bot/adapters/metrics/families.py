"""The families of metrics that are counted as things happen. Times are in seconds."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PEOPLE: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)
"""Up to what waits for people: approvals expire after 15 minutes (design/safety.md, Approving 2). 5, 30 and 60 s are bars of reference/safety.md 4.1."""
CALLS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of calls: from a commit (7 to 13 ms) to the longest time-out of one request."""


class Families:
    """Registered in one registry, once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"natsmedic_{name}", meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"natsmedic_{name}_seconds", meaning, labels, registry=registry, buckets=buckets)

        self.deliveries = counter("deliveries", "Deliveries stored, by webhook source or own sense.", "source")
        self.alerts = counter("alerts", "Alerts taken in, by what became of them.", "source", "outcome")
        self.incidents = counter("incidents_entered", "Incidents that came into a state.", "state")
        self.diagnoses = counter("diagnoses", "Diagnoses, by the severity of their verdict.", "runbook", "severity")
        self.findings = counter("findings", "Findings of diagnoses, by check.", "code", "severity")
        self.proposals = counter("proposals_entered", "Proposals that came into a state.", "state", "risk")
        self.approvals = counter("approvals", "Decisions of people that were recorded.", "decision")
        self.refusals = counter("refusals", "Clicks and commands that were refused.", "reason")
        self.executions = counter("executions", "Executions that ended.", "outcome")
        self.actions = counter("actions", "Stages of executions that ended, by kind of action.", "action", "outcome")
        self.to_thread = histogram("alert_to_thread", "From an alert to its thread in the chat.", PEOPLE)
        self.to_verdict = histogram("alert_to_verdict", "From an alert to the first verdict on it.", PEOPLE)
        self.to_approval = histogram("alert_to_approval", "From an alert to the approval of a repair.", PEOPLE)
        self.to_verified = histogram("alert_to_verified", "From an alert to the verified repair.", PEOPLE)
        self.calls = counter(
            "calls", "Calls of what is outside, by how they ended.", "system", "cluster", "operation", "outcome"
        )
        self.call_seconds = histogram(
            "call", "Duration of calls of what is outside.", CALLS, "system", "cluster", "operation"
        )
        self.requests = counter("http_requests", "HTTP requests answered.", "route", "status")
        self.request_seconds = histogram("http_request", "Duration of HTTP requests.", CALLS, "route")
        self.loop_lag = Gauge(
            "natsmedic_loop_lag_seconds", "Longest lag of the event loop within the last minute.", registry=registry
        )
        self.info = Gauge("natsmedic_build_info", "Always 1.", ["version", "python", "mode"], registry=registry)
