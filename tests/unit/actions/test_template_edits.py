"""What each edit makes of a template, and what it refuses. Pure functions."""

from typing import Any

import pytest
from pydantic import ValidationError

from bot.actions import kubernetes_image as image
from bot.actions import kubernetes_probe as probe
from bot.actions import kubernetes_resources as resources
from bot.actions import kubernetes_spread as spread
from bot.actions._statefulset import Target, edited_by, fields_of, foreign, held, world_of
from bot.errors import Refused
from bot.model.probes import ENABLED_ONLY, FULL, ProbeKind
from tests.unit.actions.rollout_world import stateful_set, template
from tests.unit.snapshots import Raw

TARGET = Target(statefulset="nats", uid="u", former="nats-1", strategy={}, replicas=3, container="nats")


def container(made: Raw) -> Raw:
    return made["spec"]["containers"][0]


# Probes.


def probes(kind: ProbeKind = ProbeKind.READINESS, **change: Any) -> probe.ProbeParams:
    return probe.ProbeParams(target=TARGET, probe=kind, change=probe.ProbeChange(**change))


def test_only_what_is_named_of_a_probe_changes() -> None:
    before = template()
    after = probe.edit(before, probes(path=ENABLED_ONLY, failures=6))
    was = template()["spec"]["containers"][0]["readinessProbe"]
    assert container(after)["readinessProbe"] == was | {
        "httpGet": was["httpGet"] | {"path": ENABLED_ONLY},
        "failureThreshold": 6,
    }
    assert container(after) | {"readinessProbe": was} == container(before)
    assert before == template(), "the template that was read stays as it is"


def test_every_number_of_a_probe_can_be_set_a_delay_of_0_too() -> None:
    after = probe.edit(template(), probes(period=1, timeout=2, failures=3, initial_delay=0))
    made = container(after)["readinessProbe"]
    numbers = ("periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds")
    assert [made[name] for name in numbers] == [1, 2, 3, 0]


@pytest.mark.parametrize(
    ("ports", "port"), [([{"name": "monitor", "containerPort": 8222}], "monitor"), ([{"name": "nats"}], 8222)]
)
def test_a_new_probe_asks_the_monitoring_port(ports: list[Raw], port: str | int) -> None:
    after = probe.edit(template(ports=ports), probes(ProbeKind.STARTUP, path=FULL, failures=90))
    assert container(after)["startupProbe"] == {
        "httpGet": {"port": port, "scheme": "HTTP", "path": FULL},
        "failureThreshold": 90,
    }


def test_a_removed_probe_is_gone_and_its_absence_is_what_the_edit_leaves() -> None:
    params = probes(remove=True)
    after = probe.edit(template(), params)
    assert "readinessProbe" not in container(after)
    left = edited_by(template(), after, probe.touches(params)).wanted
    assert left["container.nats.readinessProbe.path"] is None


def test_a_probe_that_is_not_there_can_not_be_changed_in_part() -> None:
    with pytest.raises(Refused, match="has no liveness probe"):
        probe.edit(template(), probes(ProbeKind.LIVENESS, failures=3))


def test_a_probe_that_asks_no_path_is_left_alone() -> None:
    with pytest.raises(Refused, match="asks no HTTP path"):
        probe.edit(template(readinessProbe={"tcpSocket": {"port": 4222}}), probes(path="/"))


@pytest.mark.parametrize(
    "change", [{}, {"remove": True, "path": "/"}, {"path": "healthz"}, {"path": "/a b"}, {"period": 0}, {"failures": 0}]
)
def test_a_change_that_says_nothing_or_nonsense_is_no_change(change: Raw) -> None:
    with pytest.raises(ValidationError):
        probe.ProbeChange.model_validate(change)


def test_the_startup_probe_stays_where_liveness_would_begin_at_once() -> None:
    both = template(startupProbe={"httpGet": {"path": FULL}}, livenessProbe={"httpGet": {"path": ENABLED_ONLY}})
    alone = template(startupProbe={"httpGet": {"path": FULL}})
    params = probes(ProbeKind.STARTUP, remove=True)
    assert "liveness probe begins at once" in probe.objections(both, params)[0]
    assert probe.objections(alone, params) == []


# Resources.


def amounts(**given: str) -> resources.ResourcesParams:
    return resources.ResourcesParams.model_validate({"target": TARGET, **given})


def test_amounts_that_are_not_named_stay() -> None:
    before = template(resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})
    after = resources.edit(before, amounts(memory_limit="2Gi", memory_request="2Gi"))
    assert container(after)["resources"] == {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}


@pytest.mark.parametrize("present", [[], [{"name": "GOMEMLIMIT", "value": "1GiB"}]])
def test_gomemlimit_is_added_or_replaced_among_the_other_variables(present: list[Raw]) -> None:
    token = {"name": "TOKEN", "value": "s3cret"}
    after = resources.edit(template(env=[*present, token]), amounts(gomemlimit="800MiB"))
    made = container(after)["env"]
    assert sorted(made, key=lambda entry: entry["name"]) == [{"name": "GOMEMLIMIT", "value": "800MiB"}, token]


def test_a_gomemlimit_that_comes_from_elsewhere_is_left_alone() -> None:
    env = [{"name": "GOMEMLIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]
    with pytest.raises(Refused, match="comes from elsewhere"):
        resources.edit(template(env=env), amounts(gomemlimit="800MiB"))


@pytest.mark.parametrize(("limit", "fits"), [("949MiB", True), ("950MiB", True), ("951MiB", False)])
def test_gomemlimit_leaves_a_twentieth_of_the_limit(limit: str, fits: bool) -> None:
    found = resources.objections(template(), amounts(memory_limit="1000Mi", gomemlimit=limit))
    assert (found == []) is fits


@pytest.mark.parametrize(("request_", "fits"), [("1023Mi", True), ("1Gi", True), ("1025Mi", False)])
def test_a_request_is_at_most_its_limit(request_: str, fits: bool) -> None:
    found = resources.objections(template(), amounts(memory_request=request_, memory_limit="1Gi"))
    assert (found == []) is fits


@pytest.mark.parametrize("given", [{}, {"memory_limit": "lots"}, {"gomemlimit": "1Gi"}, {"cpu_limit": "-1"}])
def test_amounts_must_be_amounts(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        amounts(**given)


# Image.


@pytest.mark.parametrize(
    ("running", "wanted", "said"),
    [
        ("2.10.26", "2.11.11", ""),
        ("2.11.11", "2.11.2", ""),
        ("2.10.26", "2.15.1", ""),
        ("2.11.11", "2.10.26", "downgrade over a minor version"),
        ("2.9.25", "2.10.26", "judges servers from 2.10.0 on only"),
        ("2.15.1", "3.0.0", "another major version"),
        ("2.10.0", "2.9.99", "judges servers from 2.10.0 on only"),
    ],
)
def test_a_way_back_over_a_minor_version_is_refused(running: str, wanted: str, said: str) -> None:
    found = image.version_objections(running, wanted)
    assert (found == []) is (said == "")
    assert said in " ".join(found)


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("2.11.11", "2.11.11"),
        ("v2.11.11", "2.11.11"),
        ("2.11.11-alpine3.21", "2.11.11"),
        ("2.12.0-RC.1", ""),
        ("2.12.0-preview.2", ""),
        ("latest", ""),
        ("2.11", ""),
        ("", ""),
    ],
)
def test_a_tag_says_a_version_only_where_it_is_a_whole_release(tag: str, version: str) -> None:
    assert image.version_of_tag(tag) == version


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nats:2.15.2", ""),
        ("mirror.example.com:5000/library/nats:2.15.2-alpine", ""),
        ("nats@sha256:abc", ""),
        ("nats:2.15.3", "The tag 2.15.3 says 2.15.3, not 2.15.2."),
        ("bitnami/nats-exporter:2.15.2", "nats-exporter is another image than nats"),
        ("nats", "nats is pinned to no version"),
        ("nats:latest", "nats:latest is pinned to no version"),
    ],
)
def test_the_image_stays_the_same_one_and_says_its_version(reference: str, said: str) -> None:
    params = image.ImageParams(target=TARGET, image=reference, version="2.15.2", running="2.15.1")
    found = image.objections(template(), params)
    assert (found == []) is (said == "")
    assert said in " ".join(found)


def test_sidecars_keep_their_image() -> None:
    params = image.ImageParams(target=TARGET, image="nats:2.15.2", version="2.15.2", running="2.15.1")
    after = image.edit(template(), params)
    assert [row["image"] for row in after["spec"]["containers"]] == [
        "nats:2.15.2",
        "natsio/nats-server-config-reloader:0.16.0",
    ]


# Spread.


def apart(**more: Any) -> spread.SpreadParams:
    return spread.SpreadParams.model_validate({"target": TARGET, **more})


def test_a_constraint_selects_by_labels_that_an_upgrade_of_the_chart_keeps() -> None:
    (row,) = spread.edit(template(), apart())["spec"]["topologySpreadConstraints"]
    assert row == {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "nats"}},
    }


def test_a_constraint_on_the_same_topology_is_replaced_and_others_stay() -> None:
    zone = apart(topology="topology.kubernetes.io/zone")
    once = spread.edit(spread.edit(template(), apart()), zone)
    twice = spread.edit(once, apart(required=True))
    found = {row["topologyKey"]: row["whenUnsatisfiable"] for row in twice["spec"]["topologySpreadConstraints"]}
    assert found == {"kubernetes.io/hostname": "DoNotSchedule", "topology.kubernetes.io/zone": "ScheduleAnyway"}


@pytest.mark.parametrize("required", [False, True])
def test_anti_affinity_keeps_what_else_is_said_of_affinity(required: bool) -> None:
    before = template()
    before["spec"]["affinity"] = {"nodeAffinity": {"x": 1}}
    affinity = spread.edit(before, apart(means="anti-affinity", required=required))["spec"]["affinity"]
    assert affinity["nodeAffinity"] == {"x": 1}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "nats"}}}
    wanted = [term] if required else [{"weight": 100, "podAffinityTerm": term}]
    assert list(affinity["podAntiAffinity"].values()) == [wanted]


def test_pods_without_labels_can_not_be_told_apart() -> None:
    with pytest.raises(Refused, match="no labels"):
        spread.edit(template() | {"metadata": {}}, apart())


# Fields.


def test_no_secret_stands_in_the_world_and_its_change_is_seen_all_the_same() -> None:
    before, after = stateful_set(), stateful_set()
    container(after["spec"]["template"])["env"][0]["value"] = "0ther"
    assert "s3cret" not in str(world_of(before))
    moved = {name for name in world_of(before) if world_of(before)[name] != world_of(after)[name]}
    assert moved == {"statefulset.container.nats.env.TOKEN"}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec", "updateStrategy"), {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, "updateStrategy"),
        (("spec", "replicas"), 5, "replicas"),
        (("spec", "serviceName"), "other", "serviceName"),
        (("metadata", "uid"), "other", "uid"),
        (("spec", "template", "spec", "terminationGracePeriodSeconds"), 5, "terminationGracePeriodSeconds"),
        (("spec", "template", "spec", "volumes"), [{"name": "x"}], "volumes"),
        (("spec", "template", "spec", "containers", 0, "args"), ["-D"], "container.nats.command"),
        (("spec", "template", "spec", "containers", 1, "image"), "x:1", "container.reloader.image"),
        (
            ("spec", "template", "spec", "containers", 0, "readinessProbe", "periodSeconds"),
            1,
            "container.nats.readinessProbe.periodSeconds",
        ),
        (("spec", "template", "metadata", "labels", "app"), "x", "label.app"),
        (("spec", "template", "metadata", "annotations", "checksum"), "x", "annotation.checksum"),
    ],
)
def test_each_edit_is_named_by_its_field_alone(path: tuple[str | int, ...], value: object, field: str) -> None:
    before, after = world_of(stateful_set()), stateful_set()
    here: Any = after
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    now = world_of(after)
    assert {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)} == {
        f"statefulset.{field}"
    }


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1024Mi", "1Gi"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1", 1),
        ("250m", "250m"),
        ("1e9", "1G"),
        ("1.5Gi", "1536Mi"),
        ("0", "0m"),
    ],
)
def test_an_amount_is_the_same_however_it_is_written(written: str, stored: str | int) -> None:
    """The API server stores quantities in a form of its own."""

    def fields(amount: str | int) -> dict[str, str]:
        return fields_of(template(resources={"limits": {"x": amount}}))

    assert fields(written) == fields(stored)


@pytest.mark.parametrize(("one", "other"), [("1Gi", "1G"), ("1", "1001m"), ("1Gi", "1025Mi"), ("1", "lots")])
def test_different_amounts_are_told_apart(one: str, other: str) -> None:
    made = [fields_of(template(resources={"limits": {"x": amount}})) for amount in (one, other)]
    assert made[0] != made[1]


def test_what_the_status_says_is_no_part_of_the_world() -> None:
    assert world_of(stateful_set() | {"status": {"readyReplicas": 1}}) == world_of(stateful_set())


def test_what_is_empty_is_absent() -> None:
    made = template(resources={}, env=[], livenessProbe=None, volumeMounts=[])
    assert fields_of(made) == fields_of(template(env=[]))


def test_what_the_api_server_fills_in_below_a_new_probe_is_no_foreign_edit() -> None:
    params = probes(ProbeKind.LIVENESS, path=ENABLED_ONLY)
    after = probe.edit(template(), params)
    edited = edited_by(template(), after, probe.touches(params))
    stored = {"spec": {"template": after}}
    container(after)["livenessProbe"] |= {"timeoutSeconds": 1, "successThreshold": 1}
    assert foreign(stored, template(), edited) == []
    container(after)["livenessProbe"]["httpGet"]["path"] = "/"
    assert foreign(stored, template(), edited) == [
        f"container.nats.livenessProbe.path must be {ENABLED_ONLY} and is /."
    ]


def test_another_number_of_the_edited_probe_that_somebody_changes_is_seen() -> None:
    params = probes(path=ENABLED_ONLY)
    after = probe.edit(template(), params)
    edited = edited_by(template(), after, probe.touches(params))
    assert edited.wanted == {"container.nats.readinessProbe.path": ENABLED_ONLY}
    container(after)["readinessProbe"] |= {"failureThreshold": 9}
    assert foreign({"spec": {"template": after}}, template(), edited) == [
        "Somebody else changed container.nats.readinessProbe.failureThreshold: it was 3, now 9."
    ]


def test_a_hold_keeps_what_else_the_strategy_says_and_on_delete_needs_none() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}}
    assert held(rolling, 3) == {"type": "RollingUpdate", "rollingUpdate": {"partition": 3, "maxUnavailable": 1}}
    assert held({}, 3) == {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
    assert held({"type": "OnDelete"}, 3) == {"type": "OnDelete"}
