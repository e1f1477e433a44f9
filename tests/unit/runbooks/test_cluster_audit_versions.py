"""The cluster audit's checks of versions, configuration and clocks, at every threshold."""

from datetime import datetime, timedelta

import pytest

from bot.model import Severity
from tests.unit.runbooks.audit_support import NEWEST, Change, examined, put, severity, worst
from tests.unit.snapshots import Raw, recorded

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN

DEFECTS = [
    ("2.10.26", "CVE-2025-30215", True),
    ("2.10.27", "CVE-2025-30215", False),
    ("2.11.0", "CVE-2025-30215", True),
    ("2.11.1", "CVE-2025-30215", False),
    ("2.10.29", "CVE-2026-33222", True),
    ("2.11.14", "CVE-2026-33222", True),
    ("2.11.15", "CVE-2026-33222", False),
    ("2.12.5", "CVE-2026-33222", True),
    ("2.12.6", "CVE-2026-33222", False),
    ("2.14.0", "CVE-2026-33222", False),
    ("2.10.28", "#6851", True),
    ("2.10.29", "#6851", False),
    ("2.11.2", "#6851", True),
    ("2.11.3", "#6851", False),
    ("2.10.29", "#6856", True),
    ("2.11.4", "#6856", False),
    ("2.12.9", "#8253", True),
    ("2.12.10", "#8253", False),
    ("2.14.1", "#8253", True),
    ("2.14.2", "#8253", False),
    ("2.14.6", "#8454", True),
    ("2.15.0", "#8454", False),
    ("2.10.24", "#6362", True),
    ("2.10.25", "#6362", False),
]


@pytest.mark.parametrize(("version", "issue", "affected"), DEFECTS)
def test_known_defects_at_the_versions_that_fix_them(version: str, issue: str, affected: bool) -> None:
    found = examined(recorded(NEWEST, put("VARZ", "version", version)))["AUDIT_DEFECTS"]
    assert any(issue in f.sentence for f in found) is affected


def test_a_version_that_cannot_be_read_is_unknown() -> None:
    assert severity("AUDIT_DEFECTS", put("VARZ", "version", "dev", "n0")) is UNKNOWN


def test_jetstream_on_some_servers_only_is_a_warning_and_switched_off_by_the_server_critical() -> None:
    off = put("JSZ", "disabled", True, "n2")
    assert severity("AUDIT_JETSTREAM_MIX", off) is WARNING
    assert severity("AUDIT_JETSTREAM_MIX", off, put("HEALTHZ", "status", "unavailable", "n2")) is CRITICAL
    assert severity("AUDIT_JETSTREAM_MIX", put("JSZ", "disabled", True)) is OK


def digest_of(n0: str, n1: str, n2: str) -> Change:
    def change(raw: Raw) -> None:
        for server, value in (("n0", n0), ("n1", n1), ("n2", n2)):
            put("VARZ", "config_digest", value, server)(raw)

    return change


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (digest_of("sha256:a", "sha256:a", "sha256:a"), OK),
        (digest_of("sha256:a", "sha256:a", "sha256:b"), WARNING),
        (digest_of("sha256:a", "sha256:b", "sha256:c"), OK),
        (put("VARZ", "max_payload", 1, "n0"), WARNING),
        (put("VARZ", "cluster.pool_size", 5, "n0"), WARNING),
        (put("VARZ", "jetstream.config.max_storage", 5, "n0"), OK),
    ],
)
def test_configuration_drift_is_told_apart_from_files_of_their_own(change: Change, level: Severity) -> None:
    assert severity("AUDIT_CONFIG_DRIFT", change) is level


def clock(seconds: float, *servers: str) -> Change:
    """A change after which all samples arrived at once, and these servers' clocks are off."""

    def change(raw: Raw) -> None:
        at = datetime.fromisoformat("2026-11-21T10:00:00+00:00")
        for sample in raw["samples"]:
            sample["taken_at"] = at.isoformat()
            if "now" in sample["data"]:
                off = seconds if sample["server"] in servers else 0
                sample["data"]["now"] = (at + timedelta(seconds=off)).isoformat()

    return change


@pytest.mark.parametrize(("seconds", "level"), [(1.9, OK), (2, OK), (2.1, WARNING), (-2.1, WARNING)])
def test_clock_skew_at_its_threshold(seconds: float, level: Severity) -> None:
    assert severity("AUDIT_CLOCKS", clock(seconds, "n1")) is level
    ours = worst("AUDIT_CLOCKS", clock(seconds, "n0", "n1", "n2"))
    assert (ours.severity, "natsmedic" in ours.sentence) == (level, level is WARNING)
