"""Names, routes, and whether the servers run with the present nats.conf."""

import pytest

from bot.model import Endpoint, Severity
from bot.model.kubernetes import Kind
from tests.unit.runbooks.deploy_support import CONF, DENIED, World, before, found, healthy, only, says

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


def routed(*routes: str, loaded: bool = True) -> World:
    world = healthy()
    world.conf = CONF[: CONF.index("  routes:")] + f"  routes: [ {', '.join(routes)} ] }}\n"
    if not loaded:
        world.loaded = CONF
    return world


# The service.


def test_a_service_name_that_no_service_has_breaks_routes_by_name():
    world = healthy()
    del world.services[0]
    finding = only(world, "DEPLOY_SERVICE")
    assert (finding.severity, finding.cause) == (CRITICAL, True)
    assert "its serviceName 'nats-headless' names no Service" in finding.sentence


def test_a_service_that_is_not_headless_gives_no_names():
    world = healthy()
    world.services[0]["spec"]["clusterIP"] = "10.1.0.2"
    assert says(world, "DEPLOY_SERVICE", "is not headless", "routes of nats.conf use them") is CRITICAL


def test_where_no_route_needs_the_names_their_lack_breaks_nothing_now():
    world = routed("nats://nats:6222")
    world.services[0]["spec"]["selector"] = {"app": "other"}
    assert says(world, "DEPLOY_SERVICE", "does not select its pods") is WARNING


def test_names_only_for_ready_pods_are_a_warning():
    world = healthy()
    del world.services[0]["spec"]["publishNotReadyAddresses"]
    finding = only(world, "DEPLOY_SERVICE")
    assert finding.severity is WARNING
    assert (finding.evidence["object"], finding.evidence["expected"]) == ("Service queues/nats-headless", True)


def test_one_pod_needs_no_names():
    world = healthy()
    world.spec["replicas"] = 1
    world.services.clear()
    assert says(world, "DEPLOY_SERVICE") is OK


# The routes.


@pytest.mark.parametrize(
    "host", ["nats-headless", "nats-headless.queues.svc.cluster.local", "nats", "nats-headless.queues.svc"]
)
def test_one_name_for_all_pods_is_what_family_c_comes_from(host: str):
    finding = only(routed(f"nats://{host}:6222"), "DEPLOY_ROUTES")
    assert (finding.severity, finding.cause) == (WARNING, True)
    assert f"names all pods by one name ({host})" in finding.sentence
    assert finding.evidence["missing"] == ["nats-0", "nats-1", "nats-2"]
    assert "#6051" in (finding.issue or "")


@pytest.mark.parametrize(
    "tail", ["", ".queues", ".queues.svc", ".queues.svc.cluster.local", ".queues.svc.example.org."]
)
def test_pods_may_be_named_in_full(tail: str):
    routes = [f"nats://user:secret@nats-{n}.nats-headless{tail}:6222" for n in range(3)]
    assert says(routed(*routes), "DEPLOY_ROUTES") is OK


def test_a_pod_that_is_not_listed_is_named():
    world = routed("nats://nats-0.nats-headless:6222", "nats://nats-1.nats-headless:6222")
    assert says(world, "DEPLOY_ROUTES", "does not name nats-2", "entries for 2 of 3 pods") is WARNING


@pytest.mark.parametrize(
    "host",
    [
        "nats-3.nats-headless",
        "nats-0",
        "nats-0.other",
        "nats-0.nats-headless.elsewhere.svc",
        "nats-headless.elsewhere",
        "x",
    ],
)
def test_entries_that_name_no_pod_are_dialled_for_ever(host: str):
    routes = [f"nats://nats-{n}.nats-headless:6222" for n in range(3)]
    finding = only(routed(*routes, f"nats://{host}:6222"), "DEPLOY_ROUTES")
    assert finding.severity is WARNING
    assert finding.evidence["wrong"] == [f"{host}:6222"]


def test_addresses_change_with_every_new_pod():
    world = routed("nats://10.0.0.1:6222", "nats://10.0.0.2:6222", "nats://10.0.0.3:6222")
    assert says(world, "DEPLOY_ROUTES", "changes with every new pod") is WARNING


def test_another_port_than_the_servers_listen_on_is_told():
    world = routed(*(f"nats://nats-{n}.nats-headless:{6222 + (n == 2)}" for n in range(3)))
    assert says(world, "DEPLOY_ROUTES", "another port than the 6222", "nats-2.nats-headless:6223") is WARNING


def test_no_routes_and_no_cluster_are_critical():
    assert says(routed(), "DEPLOY_ROUTES", "is empty") is CRITICAL
    world = healthy()
    world.conf = CONF[: CONF.index("cluster {")]
    assert says(world, "DEPLOY_ROUTES", "has no cluster block") is CRITICAL


def test_a_cluster_block_in_a_file_that_is_not_there_is_unknown():
    world = healthy()
    world.conf = CONF[: CONF.index("cluster {")] + "include cluster.conf\n"
    assert says(world, "DEPLOY_ROUTES", "cluster.conf") is UNKNOWN


def test_routes_in_a_variable_are_unknown():
    world = healthy()
    world.conf = CONF[: CONF.index("  routes:")] + "  routes: $ROUTES }\n"
    assert says(world, "DEPLOY_ROUTES", "$ROUTES") is UNKNOWN


def test_a_password_in_a_route_stands_in_no_finding():
    world = routed("nats://route:s3cret@nats-headless:6222", "nats://route:s3cret@10.0.0.1:6222")
    assert "s3cret" not in str([f.model_dump() for f in found(world, "DEPLOY_ROUTES")])


# Whether it is loaded.


def changed(world: World, seconds: float) -> World:
    entry = {"manager": "helm", "operation": "Update", "time": before(seconds), "fieldsV1": {"f:data": {}}}
    world.config_map["metadata"]["managedFields"] = [entry]
    return world


def test_a_server_with_another_digest_has_not_loaded_the_present_file():
    world = routed("nats://nats-headless:6222", loaded=False)
    finding = only(world, "DEPLOY_CONFIG")
    assert finding.severity is WARNING
    assert "nats-0, nats-1, nats-2 of nats runs with: config_digest is another one" in finding.sentence


@pytest.mark.parametrize(("seconds", "severity"), [(179, OK), (180, OK), (181, WARNING)])
def test_a_change_may_be_on_its_way_for_three_minutes(seconds: float, severity: Severity):
    world = changed(routed("nats://nats-headless:6222", loaded=False), seconds)
    words = ("is on its way to nats-0, nats-1, nats-2",) if severity is OK else ("changed 3 min ago",)
    assert says(world, "DEPLOY_CONFIG", *words) is severity


def test_a_file_that_is_mounted_by_subpath_is_never_on_its_way():
    world = changed(routed("nats://nats-headless:6222", loaded=False), 10)
    world.live = False
    assert says(world, "DEPLOY_CONFIG", "mounted by subPath") is WARNING


def old_server(world: World) -> World:
    """2.10 has no digest."""
    world.version = "2.10.29"
    return world


def test_before_2_11_routes_show_that_a_file_is_not_loaded():
    world = old_server(healthy())
    assert says(world, "DEPLOY_CONFIG") is OK
    world.answers["nats-1"][Endpoint.VARZ] = {"cluster": {"urls": ["nats-headless:6222"]}}
    assert says(world, "DEPLOY_CONFIG", "nats-1 of nats", "it runs with routes nats-headless:6222") is WARNING


@pytest.mark.parametrize(("seconds", "severity"), [(999, WARNING), (1_000, OK), (1_001, OK)])
def test_before_2_11_the_time_of_loading_shows_it(seconds: float, severity: Severity):
    world = changed(old_server(healthy()), seconds)
    for answers in world.answers.values():
        answers[Endpoint.VARZ] = {"config_load_time": before(1_000)}
    assert says(world, "DEPLOY_CONFIG", *(("before the change",) if severity is WARNING else ())) is severity


def test_equal_digests_prove_it_whatever_the_times_say():
    assert says(changed(healthy(), 500), "DEPLOY_CONFIG") is OK


def test_the_charts_server_name_is_part_of_the_digest():
    world = healthy()
    assert world.digests(CONF, "nats-0") != world.digests(CONF, "nats-1")
    assert says(world, "DEPLOY_CONFIG") is OK


# What makes servers load it.


def test_a_subpath_is_never_updated():
    world = healthy()
    world.live = False
    assert says(world, "DEPLOY_RELOAD", "mounted by subPath") is WARNING


def test_without_a_reloader_nothing_loads_a_change():
    world = healthy()
    del world.pod_spec["containers"][1]
    assert says(world, "DEPLOY_RELOAD", "Nothing makes the servers load") is WARNING


@pytest.mark.parametrize("annotation", ["checksum/config", "reloader.stakater.com/auto"])
def test_an_annotation_that_rolls_the_pods_does_as_well(annotation: str):
    world = healthy()
    del world.pod_spec["containers"][1]
    world.spec["template"]["metadata"]["annotations"] = {annotation: "x"}
    assert says(world, "DEPLOY_RELOAD") is OK


def test_a_reloader_must_share_the_servers_process_namespace():
    world = healthy()
    del world.pod_spec["shareProcessNamespace"]
    assert says(world, "DEPLOY_RELOAD", "Container reloader can't signal") is WARNING


def test_services_that_can_not_be_read_are_unknown():
    world = healthy()
    world.denied[Kind.SERVICE] = DENIED
    assert says(world, "DEPLOY_SERVICE", DENIED.detail) is UNKNOWN
