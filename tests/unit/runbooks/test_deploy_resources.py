"""CPU and memory, the end of a server, and its image."""

from collections.abc import Mapping
from typing import Any

import pytest

from bot.model import Endpoint, Severity
from tests.unit.runbooks.deploy_support import GIB, MIB, World, found, healthy, only, says

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


def resources(cpu: str, memory: str, requests: Mapping[str, str] | None = None) -> World:
    world = healthy()
    limits = {"cpu": cpu, "memory": memory}
    world.container["resources"] = {"limits": limits, "requests": limits | dict(requests or {})}
    return world


def gomemlimit(value: Any) -> World:
    world = healthy()
    entry = (
        {"name": "GOMEMLIMIT", "value": value} if isinstance(value, str) else {"name": "GOMEMLIMIT", "valueFrom": value}
    )
    world.container["env"][2] = entry
    return world


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        ({}, "requests.cpu, requests.memory, limits.memory, limits.cpu"),
        ({"requests": {"cpu": "2", "memory": "8Gi"}}, "limits.memory, limits.cpu"),
        ({"limits": {"memory": "8Gi"}}, "requests.cpu, limits.cpu"),
    ],
)
def test_what_is_not_asked_for_is_named(made: dict[str, Any], missing: str):
    world = healthy()
    world.container["resources"] = made
    assert says(world, "DEPLOY_RESOURCES", f"has no {missing}:") is WARNING


def test_limits_alone_are_requests_too():
    world = healthy()
    del world.container["resources"]["requests"]
    assert says(world, "DEPLOY_RESOURCES") is OK


def test_requests_below_limits_are_not_guaranteed():
    world = resources("2", "8Gi", {"memory": "4Gi"})
    assert says(world, "DEPLOY_RESOURCES", "requests less than its limits (memory)", "not Guaranteed") is WARNING


def test_a_sidecar_without_limits_takes_the_guarantee_from_the_pod():
    world = healthy()
    world.pod_spec["containers"][1]["resources"] = {}
    assert says(world, "DEPLOY_RESOURCES", "not Guaranteed, because of reloader") is WARNING


@pytest.mark.parametrize(("cpu", "severity"), [("499m", WARNING), ("500m", OK), ("501m", OK)])
def test_half_a_core_is_the_least(cpu: str, severity: Severity):
    assert says(resources(cpu, "8Gi"), "DEPLOY_RESOURCES", *(("499m CPU",) if severity is WARNING else ())) is severity


@pytest.mark.parametrize(("memory", "severity"), [(512 * MIB - 1, WARNING), (512 * MIB, OK), (512 * MIB + 1, OK)])
def test_half_a_gibibyte_is_the_least(memory: int, severity: Severity):
    assert says(resources("2", str(memory)), "DEPLOY_RESOURCES") is severity


def test_the_bitnami_preset_nano_is_too_small_in_both():
    world = resources("150m", "192Mi", {"cpu": "100m", "memory": "128Mi"})
    sentences = [f.sentence for f in found(world, "DEPLOY_RESOURCES")]
    assert len(sentences) == 3
    assert any("150m CPU" in s for s in sentences)
    assert any("192.0 MiB" in s for s in sentences)


# Memory.


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        (f"{4 * GIB - 1}", WARNING),
        (f"{4 * GIB}", OK),
        ("6GiB", OK),
        ("7372MiB", OK),
        ("7373MiB", WARNING),
        ({"resourceFieldRef": {"resource": "limits.memory"}}, WARNING),
    ],
)
def test_gomemlimit_is_between_50_and_90_percent_of_the_limit(value: Any, severity: Severity):
    assert says(gomemlimit(value), "DEPLOY_MEMORY") is severity


def test_a_limit_that_is_too_high_and_one_that_is_too_low_hurt_in_different_ways():
    assert says(gomemlimit("8GiB"), "DEPLOY_MEMORY", "100% of its memory limit", "leaves too little") is WARNING
    assert says(gomemlimit("2GiB"), "DEPLOY_MEMORY", "25% of its memory limit", "collect garbage") is WARNING


def test_without_gomemlimit_go_does_not_know_its_limit():
    world = healthy()
    del world.container["env"][2]
    for answers in world.answers.values():
        answers[Endpoint.VARZ] = {"gomemlimit": 2**63 - 1}
    assert says(world, "DEPLOY_MEMORY", "GOMEMLIMIT is not set", "limit of 8.0 GiB") is WARNING


def test_a_limit_from_elsewhere_is_what_the_servers_report():
    world = gomemlimit({"configMapKeyRef": {"name": "limits", "key": "go"}})
    assert says(world, "DEPLOY_MEMORY") is OK
    for answers in world.answers.values():
        answers[Endpoint.VARZ] = {}
    assert says(world, "DEPLOY_MEMORY", "configMapKeyRef limits/go") is UNKNOWN


@pytest.mark.parametrize(("allowed", "severity"), [(6 * GIB, OK), (6 * GIB + 1, WARNING)])
def test_streams_in_memory_fit_below_gomemlimit(allowed: int, severity: Severity):
    world = healthy()
    jsz = world.answers["nats-0"][Endpoint.JSZ]
    assert isinstance(jsz, dict)
    jsz["config"]["max_memory"] = allowed
    words = ("6.0 GiB of streams in memory (max_memory of JSZ)", "GOMEMLIMIT is 6.0 GiB") if severity is WARNING else ()
    assert says(world, "DEPLOY_MEMORY", *words) is severity


def test_without_a_memory_limit_there_is_nothing_to_compare_with():
    world = healthy()
    world.container["resources"] = {}
    assert says(world, "DEPLOY_MEMORY") is OK


# The end of a server.


def test_without_a_hook_a_server_cuts_its_clients_off():
    world = healthy()
    del world.container["lifecycle"]
    assert says(world, "DEPLOY_SHUTDOWN", "has no preStop hook") is WARNING


@pytest.mark.parametrize(("grace", "severity"), [(49, WARNING), (50, OK), (60, OK)])
def test_the_grace_period_is_twenty_seconds_longer_than_lame_duck_mode(grace: int, severity: Severity):
    world = healthy()
    world.pod_spec["terminationGracePeriodSeconds"] = grace
    assert says(world, "DEPLOY_SHUTDOWN", *(("lasts 30 s (nats.conf)",) if severity is WARNING else ())) is severity


@pytest.mark.parametrize(("grace", "severity"), [(139, WARNING), (140, OK)])
def test_without_a_setting_lame_duck_mode_lasts_two_minutes(grace: int, severity: Severity):
    world = healthy()
    world.conf = world.conf.replace(", lame_duck_duration: 30s", "")
    world.pod_spec["terminationGracePeriodSeconds"] = grace
    assert says(world, "DEPLOY_SHUTDOWN", *(("the server's default",) if severity is WARNING else ())) is severity


# The image.


@pytest.mark.parametrize(
    "image",
    [
        "nats",
        "nats:latest",
        "reg.example.com:5000/nats",
        "nats:2",
        "nats:2.11",
        "nats:2-alpine",
        "nats:2.11-alpine3.20",
        "nats:alpine",
    ],
)
def test_a_tag_that_moves_is_a_warning(image: str):
    world = healthy()
    world.container["image"] = image
    assert says(world, "DEPLOY_IMAGE", f"Image {image} of container nats") is WARNING


@pytest.mark.parametrize(
    "image",
    [
        "nats:2.11.11",
        "nats:v2.11.11",
        "nats:2.11.11-alpine3.20",
        f"nats:latest@sha256:{'a' * 64}",
        "own/nats:build-7f3a2c",
    ],
)
def test_a_whole_version_a_digest_or_a_build_of_ones_own_is_pinned(image: str):
    world = healthy()
    world.container["image"] = image
    assert says(world, "DEPLOY_IMAGE") is OK


def test_a_server_of_another_version_than_its_image_says_is_told():
    world = healthy()
    world.answers["nats-1"][Endpoint.VARZ] = {"version": "2.10.29"}
    finding = only(world, "DEPLOY_IMAGE")
    assert finding.severity is WARNING
    assert "nats-1 runs 2.10.29 and its image is nats:2.11.11-alpine" in finding.sentence


def test_a_pod_is_compared_with_its_own_image_while_a_rollout_is_under_way():
    world = healthy()
    world.container["image"] = "nats:2.12.8-alpine"
    assert says(world, "DEPLOY_IMAGE") is OK
