"""What probe paths check: the table of reference/nats.md 1.0 and answers of real servers whose meta layer hung (2.10.26, 2.11.11 and 2.15.1)."""

import pytest

from bot.model import JsonObject
from bot.model.probes import (
    BITNAMI_LIVENESS,
    ENABLED_ONLY,
    FULL,
    NO_CONTACT,
    NOT_CURRENT,
    OFFICIAL_CHART,
    SERVER_ONLY,
    Depth,
    Fit,
    Health,
    ProbeKind,
    ProbeOutcome,
    Version,
    fit,
    health,
    probe_outcome,
    read_probe,
)

OLD, NEW, NEWEST = (2, 10, 26), (2, 11, 0), (2, 15, 1)
LAST_OLD = (2, 10, 29)
META_ONLY = "/healthz?js-meta-only=true"
OK, BAD, UNKNOWN = ProbeOutcome.PASSES, ProbeOutcome.FAILS, ProbeOutcome.UNKNOWN


def said(error: str, kind: str = "JETSTREAM") -> JsonObject:
    """What HEALTHZ with details answers."""
    return {"status": "error", "status_code": 503, "errors": [{"type": kind, "error": error}]}


BEHIND = health(said(NOT_CURRENT))


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        # Reference/nats.md 1.0: two of three servers dead.
        (FULL, BAD, BAD),
        (SERVER_ONLY, BAD, OK),
        (ENABLED_ONLY, OK, OK),
        (META_ONLY, BAD, BAD),
        # Seen on servers whose meta layer hung.
        ("/", OK, OK),
        ("/varz", OK, OK),
        ("//healthz", BAD, BAD),
        ("/healthz/", BAD, BAD),
        ("/HEALTHZ", BAD, BAD),
        ("/healthz?js-enabled-only", BAD, BAD),
        ("/healthz?js-enabled-only=", BAD, BAD),
        ("/healthz?js-enabled-only=1", OK, OK),
        ("/healthz?js-enabled-only=T", OK, OK),
        ("/healthz?js-enabled-only=tRue", BAD, BAD),
        ("/healthz?js-enabled-only=yes", BAD, BAD),
        ("/healthz?js-enabled-only=%74rue", OK, OK),
        ("/healthz?js-enabled=true", OK, OK),
        ("/healthz?js-server-only=false", BAD, BAD),
        ("/healthz?js-server-only", BAD, BAD),
        ("/healthz?js-server-only=false&js-server-only=true", BAD, BAD),
        ("/healthz?js-server-only=true;x=1", BAD, BAD),
        ("/healthz?JS-server-only=true", BAD, BAD),
        ("/healthz?js_server_only=true", BAD, BAD),
        ("/healthz?js-server-only=true#x", BAD, OK),
        ("/healthz?js-enabled-only=true&js-server-only=true", OK, OK),
        ("/healthz?js-enabled=true&js-server-only=true", OK, OK),
        ("/healthz?js-meta-only=true&js-enabled-only=true", OK, OK),
        ("/healthz?js-meta-only=true&js-server-only=true", BAD, OK),
        ("/healthz?js-meta-only=yes", BAD, BAD),
        ("/healthz?js-enabled-only=true&details=true", OK, OK),
        ("/healthz?details=yes", BAD, BAD),
        ("/healthz?unknown=true", BAD, BAD),
        ("/healthz?account=APP", BAD, BAD),
        ("/healthz?account=APP&stream=ORDERS", BAD, BAD),
        ("/healthz?stream=ORDERS", BAD, BAD),
        ("/nats/healthz?js-enabled-only=true", OK, OK),
    ],
)
def test_a_path_answers_as_real_servers_answered_while_their_meta_layer_hung(
    path: str, old: ProbeOutcome, new: ProbeOutcome
) -> None:
    assert probe_outcome(read_probe(path, OLD), BEHIND) is old
    assert probe_outcome(read_probe(path, LAST_OLD), BEHIND) is old
    assert probe_outcome(read_probe(path, NEW), BEHIND) is new
    assert probe_outcome(read_probe(path, NEWEST), BEHIND) is new


@pytest.mark.parametrize(
    ("path", "version", "depth"),
    [
        (FULL, OLD, Depth.ASSETS),
        (SERVER_ONLY, LAST_OLD, Depth.META),
        (SERVER_ONLY, NEW, Depth.PORTS),
        (ENABLED_ONLY, OLD, Depth.ENABLED),
        (META_ONLY, LAST_OLD, Depth.ASSETS),
        (META_ONLY, NEW, Depth.META),
        ("/", NEW, Depth.HTTP),
    ],
)
def test_the_depth_of_a_path_follows_the_version(path: str, version: Version, depth: Depth) -> None:
    assert read_probe(path, version).depth is depth


@pytest.mark.parametrize(
    ("path", "depth"), [(SERVER_ONLY, None), (META_ONLY, None), (ENABLED_ONLY, Depth.ENABLED), (FULL, Depth.ASSETS)]
)
def test_without_a_version_only_paths_that_mean_the_same_everywhere_are_known(path: str, depth: Depth | None) -> None:
    assert read_probe(path, None).depth is depth


@pytest.mark.parametrize(("version", "expected"), [((2, 10, 23), OK), ((2, 10, 24), BAD), (None, UNKNOWN)])
def test_details_never_fail_a_probe_before_2_10_24(version: Version | None, expected: ProbeOutcome) -> None:
    assert probe_outcome(read_probe("/healthz?details=true", version), BEHIND) is expected


@pytest.mark.parametrize(
    ("answer", "passing"),
    [
        ({"status": "ok"}, {FULL, SERVER_ONLY, ENABLED_ONLY, "/"}),
        (
            said("JetStream stream 'APP > S' is not current: stream catching up", "STREAM"),
            {SERVER_ONLY, ENABLED_ONLY, "/"},
        ),
        (said("JetStream consumer 'APP > S > C' is not current", "CONSUMER"), {SERVER_ONLY, ENABLED_ONLY, "/"}),
        (said("JetStream account 'X' could not be resolved", "ACCOUNT"), {SERVER_ONLY, ENABLED_ONLY, "/"}),
        (said(NOT_CURRENT), {ENABLED_ONLY, "/"}),
        (said(NO_CONTACT), {ENABLED_ONLY, "/"}),
        (said("JetStream is still recovering meta layer"), {ENABLED_ONLY, "/"}),
        (said("JetStream meta layer is not running"), {ENABLED_ONLY, "/"}),
        (said("JetStream meta layer write error: no space left on device"), {ENABLED_ONLY, "/"}),
        (said("JetStream not enabled"), {"/"}),
        (said("failed to be ready for connections after 1ms: server", "CONNECTION"), {"/"}),
    ],
)
def test_each_text_of_the_health_check_fails_its_depth_and_what_is_deeper(
    answer: JsonObject, passing: set[str]
) -> None:
    seen = health(answer)
    for path in (FULL, SERVER_ONLY, ENABLED_ONLY, "/"):
        assert probe_outcome(read_probe(path, OLD), seen) is (OK if path in passing else BAD), path


def test_the_answer_without_details_means_the_same() -> None:
    assert health({"status": "unavailable", "error": NOT_CURRENT}) == BEHIND
    stream = health({"status": "unavailable", "error": "JetStream stream 'APP > S' is not current"})
    assert (stream.sound, stream.failed) == (Depth.META, Depth.ASSETS)


def test_the_shallowest_of_several_errors_decides() -> None:
    asset = {"type": "STREAM", "error": "JetStream stream 'A > S' is not current"}
    both = {"status": "error", "errors": [asset, {"type": "JETSTREAM", "error": NOT_CURRENT}]}
    assert health(both).failed is Depth.META


def test_a_text_of_a_later_version_fails_the_full_check_and_nothing_else_is_known() -> None:
    seen = health(said("JetStream has something new"))
    assert probe_outcome(read_probe(FULL, NEWEST), seen) is BAD
    assert probe_outcome(read_probe(META_ONLY, NEWEST), seen) is UNKNOWN
    assert probe_outcome(read_probe("/", NEWEST), seen) is OK


@pytest.mark.parametrize(
    ("meta", "failed", "sound"),
    [
        ({"state": "LEADER", "leader": "a"}, None, Depth.META),
        ({"state": "FOLLOWER", "leader": ""}, Depth.META, Depth.ENABLED),
        ({"state": "FOLLOWER", "leader": "a", "committed": 7, "applied": 7}, None, Depth.ENABLED),
    ],
)
def test_raftz_alone_never_proves_a_follower_current(meta: JsonObject, failed: Depth | None, sound: Depth) -> None:
    seen = health(None, meta)
    assert (seen.failed, seen.sound) == (failed, sound)


def test_nothing_read_is_unknown_for_every_path() -> None:
    assert {probe_outcome(read_probe(path, NEW), health(None)) for path in (FULL, SERVER_ONLY, "/")} == {UNKNOWN}


@pytest.mark.parametrize(
    ("kind", "path", "version", "strict"),
    [
        (ProbeKind.READINESS, OFFICIAL_CHART[ProbeKind.READINESS], LAST_OLD, True),
        (ProbeKind.READINESS, OFFICIAL_CHART[ProbeKind.READINESS], NEW, False),
        (ProbeKind.READINESS, ENABLED_ONLY, OLD, False),
        (ProbeKind.READINESS, "/healthz?js-enabled-only", NEWEST, True),
        (ProbeKind.READINESS, META_ONLY, NEW, True),
        (ProbeKind.READINESS, "/", OLD, False),
        (ProbeKind.READINESS, SERVER_ONLY, None, False),
        (ProbeKind.LIVENESS, OFFICIAL_CHART[ProbeKind.LIVENESS], OLD, False),
        (ProbeKind.LIVENESS, BITNAMI_LIVENESS, NEWEST, True),
        (ProbeKind.STARTUP, OFFICIAL_CHART[ProbeKind.STARTUP], NEWEST, False),
        (ProbeKind.READINESS, "/healthz?js-enabled-only=yes", NEWEST, True),
    ],
)
def test_a_probe_that_asks_for_the_meta_leader_is_too_strict_for_a_running_pod(
    kind: ProbeKind, path: str, version: Version | None, strict: bool
) -> None:
    judged = fit(kind, read_probe(path, version))
    assert judged.too_strict is strict
    assert bool(judged.why) is strict or kind is ProbeKind.STARTUP
    if strict:
        assert not fit(kind, read_probe(judged.better, version)).too_strict


def test_a_full_startup_probe_is_kept_and_its_price_is_told() -> None:
    assert "holds up a rollout" in fit(ProbeKind.STARTUP, read_probe(FULL, NEWEST)).why
    assert fit(ProbeKind.STARTUP, read_probe(ENABLED_ONLY, NEWEST)) == Fit()


@pytest.mark.parametrize(
    ("path", "version", "note"),
    [
        (META_ONLY, LAST_OLD, "ignored"),
        ("/healthz?js-server-only", NEWEST, "without =true"),
        ("/healthz?js-enabled-only=yes", NEWEST, "HTTP 400"),
        ("/healthz/", NEWEST, "HTTP 404"),
        ("/", NEWEST, "not whether JetStream runs"),
        (ENABLED_ONLY, NEWEST, ""),
    ],
)
def test_what_a_path_hides_is_said(path: str, version: Version, note: str) -> None:
    found = read_probe(path, version).note
    assert note in found if note else not found


def test_an_unread_server_has_no_failure() -> None:
    assert health(None) == Health(None)
