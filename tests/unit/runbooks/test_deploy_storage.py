"""What JetStream stores on, how large it is, where the pods are, and what may be evicted."""

from typing import Any

import pytest

from bot.model import Endpoint, Severity, Unknown, UnknownReason
from bot.model.kubernetes import Kind
from runbooks._deploy_storage import on_network
from tests.unit.runbooks.deploy_support import DENIED, GIB, NAMES, World, found, healthy, only, says, stream

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


def stored_on(volume: dict[str, Any]) -> World:
    world = healthy()
    world.spec["volumeClaimTemplates"] = []
    world.pod_spec["volumes"].append({"name": "nats-js", **volume})
    return world


def streams(world: World, *made: dict[str, Any], on: tuple[str, ...] = NAMES) -> World:
    for name in on:
        jsz = world.answers[name][Endpoint.JSZ]
        assert isinstance(jsz, dict)
        jsz |= {"streams": len(made), "account_details": [{"name": "APP", "stream_detail": list(made)}]}
    return world


# What it lies on.


@pytest.mark.parametrize(
    "driver",
    [
        *("nfs", "nfs.csi.k8s.io", "efs.csi.aws.com", "file.csi.azure.com", "kubernetes.io/azure-file"),
        *("rook-ceph.cephfs.csi.ceph.com", "cephfs.csi.ceph.com", "kubernetes.io/glusterfs", "smb.csi.k8s.io"),
        *("filestore.csi.storage.gke.io", "cluster.local/nfs-subdir-external-provisioner", "example.com/nfs-client"),
        *("fsx.csi.aws.com", "gcsfuse.csi.storage.gke.io", "blob.csi.azure.com", "s3.csi.aws.com"),
    ],
)
def test_network_file_systems_are_known_by_their_drivers(driver: str):
    assert on_network(driver)


@pytest.mark.parametrize(
    "driver",
    [
        *("ebs.csi.aws.com", "pd.csi.storage.gke.io", "disk.csi.azure.com", "rook-ceph.rbd.csi.ceph.com", "local"),
        *("kubernetes.io/no-provisioner", "rancher.io/local-path", "driver.longhorn.io", "csi.vsphere.vmware.com", ""),
        *("topolvm.io", "cinder.csi.openstack.org", "kubernetes.io/azure-disk", "linstor.csi.linbit.com", "profsx.io"),
    ],
)
def test_disks_are_no_network_file_systems(driver: str):
    assert not on_network(driver)


def test_a_volume_on_nfs_is_a_warning_with_its_claims():
    world = healthy()
    world.volumes[1]["spec"] = {"nfs": {"server": "filer", "path": "/x"}}
    finding = only(world, "DEPLOY_STORAGE")
    assert finding.severity is WARNING
    assert "network file system: claim nats-js-nats-1 (nfs)" in finding.sentence
    assert finding.evidence["driver"] == "nfs"


def test_a_class_tells_it_where_the_volumes_can_not_be_read():
    world = healthy()
    world.classes[0]["provisioner"] = "efs.csi.aws.com"
    world.denied[Kind.VOLUME] = DENIED
    assert says(world, "DEPLOY_STORAGE", "efs.csi.aws.com") is WARNING


def test_a_volume_mounted_directly_from_nfs_is_a_warning():
    assert says(stored_on({"nfs": {"server": "filer"}}), "DEPLOY_STORAGE", "volume nats-js (nfs)") is WARNING
    assert says(stored_on({"csi": {"driver": "nfs.csi.k8s.io"}}), "DEPLOY_STORAGE", "nfs.csi.k8s.io") is WARNING


def test_an_empty_dir_is_a_warning_and_with_streams_that_exist_once_critical():
    world = stored_on({"emptyDir": {}})
    assert says(world, "DEPLOY_STORAGE", "on an emptyDir: it ends with the pod") is WARNING
    streams(world, stream(1), stream(1, name="AUDIT"), stream(3, name="C"))
    finding = only(world, "DEPLOY_STORAGE")
    assert finding.severity is CRITICAL
    assert "2 streams with one replica would be lost" in finding.sentence
    assert finding.evidence["streams with one replica"] == ["APP > AUDIT", "APP > ORDERS"]


def test_streams_in_memory_are_lost_with_a_pod_anyway():
    assert says(streams(stored_on({"emptyDir": {}}), stream(1, "memory")), "DEPLOY_STORAGE") is WARNING


def test_with_a_server_unread_it_is_not_known_what_would_be_lost():
    world = stored_on({"emptyDir": {}})
    world.answers["nats-2"][Endpoint.JSZ] = Unknown(reason=UnknownReason.TIMED_OUT, detail="no answer")
    assert {f.severity for f in found(world, "DEPLOY_STORAGE")} == {WARNING, UNKNOWN}


def test_a_store_on_no_volume_ends_with_the_container():
    world = healthy()
    world.conf = world.conf.replace("store_dir: /data", "store_dir: /js")
    assert says(world, "DEPLOY_STORAGE", "in /js on no volume: it ends with the container") is WARNING
    world.conf = world.conf.replace("store_dir: /js, ", "")
    assert says(world, "DEPLOY_STORAGE", "/tmp/nats/jetstream on no volume") is WARNING


def test_a_directory_of_the_node_is_a_warning():
    assert says(stored_on({"hostPath": {"path": "/x"}}), "DEPLOY_STORAGE", "hostPath") is WARNING


def test_one_claim_for_all_pods_is_critical_unless_each_has_its_part_of_it():
    world = stored_on({"persistentVolumeClaim": {"claimName": "shared"}})
    assert says(world, "DEPLOY_STORAGE", "mount one claim (shared)") is CRITICAL
    world.container["volumeMounts"][2]["subPathExpr"] = "$(POD_NAME)"
    assert says(world, "DEPLOY_STORAGE") is OK


def test_what_a_store_will_lie_on_is_unknown_before_there_is_a_claim():
    world = healthy()
    world.claims.clear()
    assert says(world, "DEPLOY_STORAGE", "which has no claim yet") is UNKNOWN


def test_one_pod_may_have_one_claim():
    world = stored_on({"persistentVolumeClaim": {"claimName": "own"}})
    world.spec["replicas"] = 1
    assert says(world, "DEPLOY_STORAGE") is OK


def test_a_store_in_a_file_that_is_not_there_is_unknown():
    world = healthy()
    world.conf = world.conf.replace(
        "jetstream { store_dir: /data, max_memory_store: 0, max_file_store: 10Gi }", "include js.conf"
    )
    assert says(world, "DEPLOY_STORAGE", "js.conf, which nats.conf includes") is UNKNOWN
    assert says(world, "DEPLOY_VOLUMES", "js.conf, which nats.conf includes") is UNKNOWN


def test_without_jetstream_there_is_no_store():
    world = stored_on({"emptyDir": {}})
    world.conf = world.conf.replace("jetstream {", "jetstream { enabled: false,")
    assert says(world, "DEPLOY_STORAGE") is OK


# Whether it is there and large enough.


@pytest.mark.parametrize("phase", ["Pending", "Lost"])
def test_a_claim_that_is_not_bound_is_critical_with_the_events_words(phase: str):
    world = healthy()
    world.claims[2]["status"] = {"phase": phase}
    world.event("PersistentVolumeClaim", "nats-js-nats-2", "ProvisioningFailed", "quota of disks exceeded")
    finding = only(world, "DEPLOY_VOLUMES")
    assert (finding.severity, finding.subject.server) == (CRITICAL, "nats-2")
    assert f"is {phase} and not bound: quota of disks exceeded." in finding.sentence


@pytest.mark.parametrize(("limit", "severity"), [(10 * GIB - 1, OK), (10 * GIB, OK), (10 * GIB + 1, WARNING)])
def test_what_a_server_may_write_fits_its_volume(limit: int, severity: Severity):
    world = healthy()
    jsz = world.answers["nats-1"][Endpoint.JSZ]
    assert isinstance(jsz, dict)
    jsz["config"]["max_storage"] = limit
    words = ("claim nats-js-nats-1, which holds 10.0 GiB", "max_storage of JSZ") if severity is WARNING else ()
    assert says(world, "DEPLOY_VOLUMES", *words) is severity


def test_of_a_server_that_says_nothing_nats_conf_tells_what_it_may_write():
    world = healthy()
    world.conf = world.conf.replace("max_file_store: 10Gi", "max_file_store: 11Gi")
    for answers in world.answers.values():
        answers[Endpoint.JSZ] = Unknown(reason=UnknownReason.TIMED_OUT, detail="no answer")
    assert {f.severity for f in found(world, "DEPLOY_VOLUMES")} == {WARNING}
    world.conf = world.conf.replace(", max_file_store: 11Gi", "")
    assert says(world, "DEPLOY_VOLUMES", "what JetStream of nats-0 may write") is UNKNOWN


def test_a_claim_that_has_not_grown_yet_is_told():
    world = healthy()
    world.claims[0]["spec"]["resources"]["requests"]["storage"] = "20Gi"
    assert says(world, "DEPLOY_VOLUMES", "asks for 20.0 GiB and has 10.0 GiB") is WARNING


# Where the pods are.


def test_nothing_that_keeps_pods_apart_is_a_warning():
    world = healthy()
    del world.pod_spec["topologySpreadConstraints"]
    assert says(world, "DEPLOY_SPREAD", "Nothing keeps the 3 pods") is WARNING


def test_a_rule_for_other_pods_keeps_nothing_apart():
    world = healthy()
    world.pod_spec["topologySpreadConstraints"][0]["labelSelector"] = {"matchLabels": {"app": "shop"}}
    assert says(world, "DEPLOY_SPREAD", "Nothing keeps") is WARNING


def test_a_preference_is_no_rule():
    world = healthy()
    world.pod_spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] = "ScheduleAnyway"
    assert says(world, "DEPLOY_SPREAD", "only where it suits") is WARNING


def test_a_required_anti_affinity_is_as_good():
    world = healthy()
    (rule,) = world.pod_spec.pop("topologySpreadConstraints")
    term = {"topologyKey": rule["topologyKey"], "labelSelector": rule["labelSelector"]}
    world.pod_spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert says(world, "DEPLOY_SPREAD") is OK


def placed(*nodes: int, replicas: int | None = None) -> World:
    world = healthy()
    for pod, node in zip(world.pods, nodes, strict=True):
        pod["spec"]["nodeName"] = f"node-{node}"
    if replicas:
        world.spec["replicas"] = replicas
    return world


def test_two_of_three_members_on_one_node_end_the_quorum_with_it():
    world = placed(0, 0, 1)
    findings = found(world, "DEPLOY_PLACEMENT")
    assert [f.severity for f in findings] == [WARNING, WARNING]
    assert "Node node-0 carries nats-0, nats-1" in findings[0].sentence
    assert "the meta group (1 of 3 servers would be left) and 1 stream (APP > ORDERS)" in findings[0].sentence
    assert "Zone zone-0 carries" in findings[1].sentence


def test_in_one_zone_there_is_nothing_to_spread_over():
    world = healthy()
    for node in world.nodes:
        node["metadata"]["labels"]["topology.kubernetes.io/zone"] = "a"
    assert says(world, "DEPLOY_PLACEMENT") is OK


def test_five_servers_can_spare_two_but_a_stream_of_three_can_not():
    world = placed(0, 0, 1, replicas=5)
    for node in world.nodes:
        del node["metadata"]["labels"]["topology.kubernetes.io/zone"]
    finding = next(f for f in found(world, "DEPLOY_PLACEMENT") if f.severity is WARNING)
    assert "the meta group" not in finding.sentence
    assert finding.evidence["streams"] == ["APP > ORDERS"]
    spread = streams(world, on=("nats-0", "nats-1"))
    assert [f.severity for f in found(spread, "DEPLOY_PLACEMENT")] == [OK]


def test_zones_are_unknown_without_nodes_and_nodes_are_told_all_the_same():
    world = placed(0, 0, 1)
    world.denied[Kind.NODE] = DENIED
    assert [f.severity for f in found(world, "DEPLOY_PLACEMENT")] == [WARNING, UNKNOWN]


# The budget.


def budget(world: World, **spec: Any) -> World:
    world.budgets[0]["spec"] = {"selector": world.budgets[0]["spec"]["selector"], **spec}
    return world


def test_without_a_budget_a_drain_may_take_all():
    world = healthy()
    world.budgets[0]["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    assert says(world, "DEPLOY_BUDGET", "No PodDisruptionBudget protects the pods") is WARNING


@pytest.mark.parametrize(
    ("spec", "severity"),
    [
        ({"maxUnavailable": 0}, WARNING),
        ({"maxUnavailable": 1}, OK),
        ({"maxUnavailable": 2}, WARNING),
        ({"maxUnavailable": "33%"}, OK),
        ({"maxUnavailable": "34%"}, WARNING),
        ({"minAvailable": 3}, WARNING),
        ({"minAvailable": 2}, OK),
        ({"minAvailable": 1}, WARNING),
        ({"minAvailable": "66%"}, OK),
        ({"minAvailable": "67%"}, WARNING),
        ({"minAvailable": "33%"}, WARNING),
        ({}, WARNING),
        ({"maxUnavailable": "many"}, UNKNOWN),
    ],
)
def test_a_budget_lets_exactly_one_of_three_pods_go(spec: dict[str, Any], severity: Severity):
    assert says(budget(healthy(), **spec), "DEPLOY_BUDGET") is severity


def test_two_budgets_refuse_every_eviction():
    world = healthy()
    world.budgets.append(world.budgets[0] | {"metadata": {"name": "second", "namespace": "queues"}})
    assert says(world, "DEPLOY_BUDGET", "2 PodDisruptionBudgets select", "no node can be drained") is WARNING


def test_one_server_needs_no_budget_and_no_spreading():
    world = healthy()
    world.spec["replicas"] = 1
    world.budgets.clear()
    del world.pod_spec["topologySpreadConstraints"]
    assert says(world, "DEPLOY_BUDGET") is OK
    assert says(world, "DEPLOY_SPREAD") is OK
