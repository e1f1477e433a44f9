"""What natsmedic offers for findings of the Kubernetes side: exact stages where they may be made, and otherwise the guide with what speaks against them."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from bot.action import Draft
from bot.actions.kubernetes_probe import ProbeChange
from bot.model import Finding, Layer, Severity, Snapshot, Subject
from bot.model.kubernetes import Workload
from bot.model.kubernetes.charts import ReplicasWish
from bot.model.probes import ENABLED_ONLY, ProbeKind
from runbooks._deploy_offers import drafts, offered, probe_way, restart_way, scale_way, upgrade_way
from tests.unit.actions import kubernetes_scene
from tests.unit.actions.rollout_world import World, silence, stateful_set, template
from tests.unit.runbooks.deploy_support import found, healthy

GUIDE = Draft(title="Set it right", why="It is wrong.", guidance=("kubectl edit",))
ROLLS = ["kubernetes.roll_pod"] * 3


def finding(check: str, **evidence: Any) -> Finding:
    return Finding(
        check=check,
        layer=Layer.CLIENTS,
        subject=Subject(cluster="prod"),
        severity=Severity.WARNING,
        sentence="It is wrong.",
        evidence=evidence,
    )


def offers(world: World, *found: Finding) -> tuple[Draft, ...]:
    return offered(world.snapshot(), world.workload(), found, GUIDE)


def kinds(draft: Draft) -> list[str]:
    return [kind for kind, _ in draft.stages]


STRICT = finding("DEPLOY_PROBES", probe="readiness", expected=ENABLED_ONLY)
SLOW = finding("DEPLOY_PROBES", probe="startup", seconds=30, absent=True)


def test_a_probe_that_is_too_strict_is_offered_as_an_edit_and_one_roll_for_each_pod():
    (draft,) = offers(World(), STRICT)
    assert kinds(draft) == ["kubernetes.probe", *ROLLS]
    assert draft.title == f"Let the readiness probe ask {ENABLED_ONLY}"
    assert draft.stages[0][1]["change"]["path"] == ENABLED_ONLY
    assert [params["ordinal"] for _, params in draft.stages[1:]] == [2, 1, 0]


def test_two_probes_are_two_offers_and_times_are_those_of_the_official_chart():
    slow, strict = sorted(offers(World(), STRICT, SLOW), key=lambda draft: draft.stages[0][1]["probe"], reverse=True)
    assert strict.stages[0][1]["probe"] == "readiness"
    change = slow.stages[0][1]["change"]
    assert (slow.stages[0][1]["probe"], change["period"], change["failures"]) == ("startup", 10, 90)
    assert change["path"] == "/healthz", "a startup probe that is not there is that of the official chart"


def test_gomemlimit_is_four_fifths_of_the_limit():
    limited = template(resources={"limits": {"memory": "8Gi"}})
    world = World(stateful_set(template=limited))
    (draft,) = offers(world, finding("DEPLOY_MEMORY"))
    assert kinds(draft) == ["kubernetes.resources", *ROLLS]
    assert draft.stages[0][1]["gomemlimit"] == "6553MiB"


def test_without_a_limit_there_is_no_share_of_it_and_the_guide_stays():
    assert offers(World(), finding("DEPLOY_MEMORY")) == (GUIDE,)


def test_what_is_not_offered_says_why_beside_what_people_do():
    world = World()
    world.sick["silent"] = silence("nats-2")
    (draft,) = offers(world, STRICT)
    assert draft.stages == ()
    assert draft.guidance[0] == "kubectl edit"
    assert all(line.startswith("natsmedic does not offer it now: ") for line in draft.guidance[1:])
    assert len(draft.guidance) > 1


def test_findings_that_no_action_helps_leave_the_guide():
    assert offers(World(), finding("DEPLOY_PODS")) == (GUIDE,)
    assert drafts(None, [], GUIDE) == (GUIDE,)


def owned_world() -> World:
    world = World()
    world.raw["metadata"] |= {
        "annotations": {"meta.helm.sh/release-name": "queue", "meta.helm.sh/release-namespace": "queues"},
        "labels": {"helm.sh/chart": "nats-1.2.11"},
    }
    return world


def test_under_helm_the_whole_probe_stands_in_the_values_and_comes_first():
    source, direct = offers(owned_world(), STRICT)
    assert kinds(source) == []
    values = yaml.safe_load(source.patches[0].text)["container"]["merge"]["readinessProbe"]
    assert values["httpGet"]["path"] == ENABLED_ONLY
    assert kinds(direct) == ["kubernetes.probe", *ROLLS]
    assert "it holds until Helm's next upgrade" in direct.title


def test_an_upgrade_goes_to_the_next_line_and_keeps_what_the_tag_says_besides():
    world = World(stateful_set(template=template(image="registry.example.com/nats:2.10.26-alpine")))
    way = upgrade_way(older(world), world.workload())
    assert way is not None
    assert way.title.endswith("to 2.11.11")
    stages = way.compose().stages
    assert stages[0][1]["image"] == "registry.example.com/nats:2.11.11-alpine"


@pytest.mark.parametrize("image", ["nats", "nats@sha256:" + "0" * 64])
def test_an_image_without_a_tag_is_not_upgraded(image: str):
    world = World(stateful_set(template=template(image=image)))
    assert upgrade_way(older(world), world.workload()) is None


@pytest.mark.parametrize("said", ["", "devel", "v2", "2.x.26"])
def test_a_version_that_is_none_is_no_reason_to_upgrade_or_to_break(said: str):
    world = World()
    snapshot = world.snapshot()
    odd = replace(snapshot, servers=tuple(s.model_copy(update={"version": said}) for s in snapshot.servers))
    assert upgrade_way(odd, world.workload()) is None


def test_what_is_new_enough_is_not_upgraded():
    world = World()
    assert upgrade_way(world.snapshot(), world.workload()) is None


def older(world: World) -> Snapshot:
    snapshot = world.snapshot()
    return replace(snapshot, servers=tuple(s.model_copy(update={"version": "2.10.26"}) for s in snapshot.servers))


def test_a_restart_is_that_of_the_pod_in_which_the_server_runs():
    world = World()
    snapshot, workload = world.snapshot(), world.workload()
    server = snapshot.servers[0].name
    way = restart_way(snapshot, workload, server)
    assert way is not None
    stages = way.compose().stages
    assert [kind for kind, _ in stages] == ["kubernetes.restart_pod"]
    assert restart_way(snapshot, workload, "nobody") is None


@pytest.mark.parametrize(("replicas", "target"), [(3, 5), (4, 5)])
def test_more_servers_are_the_next_odd_number_and_the_way_back_is_told(replicas: int, target: int):
    world = World(stateful_set(replicas=replicas))
    way = scale_way(world.snapshot(), world.workload())
    assert way.title == f"Add servers: {target} instead of {replicas}"
    assert way.wish == ReplicasWish(target)
    assert any("work for people" in line for line in way.cautions)


def test_a_new_probe_has_a_port_and_the_charts_times():
    bare = {key: value for key, value in template()["spec"]["containers"][0].items() if key != "livenessProbe"}
    world = owned_world()
    world.raw["spec"]["template"]["spec"]["containers"] = [bare]
    workload: Workload = world.workload()
    way = probe_way(world.snapshot(), workload, ProbeKind.LIVENESS, ProbeChange(path=ENABLED_ONLY))
    (source, *_) = drafts(workload, [way], GUIDE)
    values = yaml.safe_load(source.patches[0].text)["container"]["merge"]["livenessProbe"]
    assert values["httpGet"] == {"port": 8222, "path": ENABLED_ONLY}
    assert (values["periodSeconds"], values["failureThreshold"]) == (30, 3)


@pytest.mark.parametrize(("replicas", "even"), [(1, False), (2, True), (3, False), (4, True), (5, False)])
def test_an_even_number_of_servers_is_a_warning_that_says_what_it_tolerates(replicas: int, even: bool):
    world = healthy()
    world.spec["replicas"] = replicas
    (said,) = found(world, "DEPLOY_SIZE")
    assert said.severity is (Severity.WARNING if even else Severity.OK)
    if even:
        assert (
            f"{replicas} servers tolerate the loss of {(replicas - 1) // 2}, and so do {replicas - 1}" in said.sentence
        )


def test_one_server_less_is_work_for_people_with_the_reason_against_it_or_exact_commands():
    scene = kubernetes_scene.cluster()
    *_, guide = offered(*scene.look(), [finding("DEPLOY_SIZE")], GUIDE)
    assert guide.stages == ()
    assert guide.guidance[0] == GUIDE.guidance[0]
    assert guide.guidance[-1].startswith("Not to 2: 2 servers have no quorum without either of them")


def test_storage_is_moved_by_people_with_exact_commands_where_the_claims_are_known():
    (guide,) = offered(*kubernetes_scene.cluster().look(), [finding("DEPLOY_STORAGE")], GUIDE)
    assert guide == GUIDE, "this scene has no claims"
    world = healthy()
    snapshot = world.snapshot()
    assert snapshot.kubernetes is not None
    workload = snapshot.kubernetes.workload
    assert isinstance(workload, Workload)
    (guide,) = offered(snapshot, workload, [finding("DEPLOY_STORAGE")], GUIDE)
    assert guide.stages == ()
    commands = " ".join(guide.guidance)
    for said in ("CLASS-OF-BLOCK-STORAGE", "--cascade=orphan", "delete pvc nats-js-nats-2", "Retain"):
        assert said in commands
