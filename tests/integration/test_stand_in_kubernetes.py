"""What only the stand-in Kubernetes can: faults, outages, tokens; and what it promises to leave alone."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from bot.adapters.clock import SystemClock
from bot.adapters.kubernetes import KubernetesApiReader
from bot.lab.http import http_client
from bot.lab.kubernetes import FaultKind, NatsManifest, Refused, StandInKubernetes
from bot.lab.process import LabError
from bot.model import Unknown
from bot.settings.clusters import KubernetesSettings
from tests.integration.kubernetes_conformance import config_map, container, workload
from tests.integration.kubernetes_support import READER_FILE
from tests.integration.stand_in_kubernetes import MAPS, MERGE, becomes, status_of, uid, varz

pytestmark = [pytest.mark.asyncio(loop_scope="module")]


# Faults.


@pytest.mark.parametrize(
    ("kind", "status", "code", "said"),
    [
        (
            FaultKind.CONFLICT,
            500,
            409,
            'Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified',
        ),
        (
            FaultKind.FORBIDDEN,
            500,
            403,
            'Forbidden: configmaps "a" is forbidden: User "admin" cannot patch resource "configmaps"',
        ),
        (FaultKind.TOO_MANY_REQUESTS, 500, 429, "TooManyRequests: Too many requests, please try again later."),
        (FaultKind.SERVER_ERROR, 500, 500, "InternalError: An error on the server"),
        (FaultKind.SERVER_ERROR, 503, 503, "ServiceUnavailable: An error on the server"),
    ],
)
async def test_a_refusing_fault_hits_once_and_does_nothing(
    kube: StandInKubernetes, http: httpx.AsyncClient, kind: FaultKind, status: int, code: int, said: str
):
    kube.apply([config_map("a", {"k": "v"})])
    kube.faults.add(kind, "PATCH", "configmaps/a", seconds=3, status=status)
    assert (await http.get(f"{MAPS}/a")).status_code == 200, "another method is another request"
    answer = await http.patch(f"{MAPS}/a", json={"data": {"k": "w"}}, headers=MERGE)
    found = answer.json()
    assert (answer.status_code, found["code"]) == (code, code)
    assert f"{found['reason']}: {found['message']}".startswith(said)
    assert answer.headers.get("Retry-After") == ("3" if code == 429 else None)
    assert (await http.get(f"{MAPS}/a")).json()["data"] == {"k": "v"}
    assert (await http.patch(f"{MAPS}/a", json={"data": {"k": "w"}}, headers=MERGE)).status_code == 200


@pytest.mark.parametrize(("kind", "left"), [(FaultKind.CUT, "v"), (FaultKind.COMMIT_THEN_CUT, "w")])
async def test_a_cut_connection_leaves_the_caller_without_an_answer(
    kube: StandInKubernetes, http: httpx.AsyncClient, kind: FaultKind, left: str
):
    kube.apply([config_map("a", {"k": "v"})])
    kube.faults.add(kind, "write", "configmaps/a")
    with pytest.raises(httpx.TransportError):
        await http.patch(f"{MAPS}/a", json={"data": {"k": "w"}}, headers=MERGE)
    assert (await http.get(f"{MAPS}/a")).json()["data"] == {"k": left}
    assert [(write.method, write.status) for write in kube.writes] == [("PATCH", 0)]


async def test_a_slow_answer_is_done_at_once(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply([config_map("a", {"k": "v"})])
    kube.faults.add(FaultKind.SLOW, "PATCH", seconds=5)
    with pytest.raises(httpx.ReadTimeout):
        await http.patch(f"{MAPS}/a", json={"data": {"k": "w"}}, headers=MERGE, timeout=0.3)
    assert (await http.get(f"{MAPS}/a")).json()["data"] == {"k": "w"}


async def test_every_write_that_arrives_is_listed(kube: StandInKubernetes, http: httpx.AsyncClient):
    token = kube.grant("eve", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}])
    await http.post(MAPS, json=config_map("a"), params={"fieldManager": "me", "dryRun": "All"})
    await http.post(MAPS, json=config_map("a"))
    await http.get(f"{MAPS}/a")
    await http.delete(f"{MAPS}/a", headers={"Authorization": f"Bearer {token}"})
    listed = [(w.method, w.path, w.user, w.manager, w.dry_run, w.status) for w in kube.writes]
    assert listed == [
        ("POST", MAPS, "admin", "me", True, 201),
        ("POST", MAPS, "admin", "python-httpx", False, 201),
        ("DELETE", f"{MAPS}/a", "eve", "python-httpx", False, 403),
    ]
    assert kube.writes[0].body["metadata"]["name"] == "a"


async def test_a_revoked_token_is_unknown(kube: StandInKubernetes, http: httpx.AsyncClient):
    token = kube.grant("eve", [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}])
    headers = {"Authorization": f"Bearer {token}"}
    assert (await http.get(MAPS, headers=headers)).status_code == 200
    kube.revoke(token)
    assert (await http.get(MAPS, headers=headers)).status_code == 401


async def test_during_an_outage_nobody_answers_and_pods_run_on(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply([workload(1)])
    await kube.wait_ready()
    watching = asyncio.create_task(http.get(MAPS, params={"watch": 1, "timeoutSeconds": 30}))
    await asyncio.sleep(0.1)
    outage = asyncio.create_task(kube.outage(1.5))
    await asyncio.sleep(0.1)
    with pytest.raises(httpx.TransportError):
        await http.get(MAPS)
    async with http_client() as fresh:
        with pytest.raises(httpx.ConnectError):
            await fresh.get(kube.url + MAPS)
    assert (await varz(kube, "nats-0"))["port"] == 4222
    kube.kill_pod("nats-0")
    with pytest.raises(httpx.TransportError):
        await watching
    await outage
    assert (await http.get(MAPS)).status_code == 200
    await becomes("a restart seen after the outage", lambda: status_of(kube, "nats-0")["restartCount"] == 1)


async def test_an_object_made_anew_under_its_name_has_another_uid(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply([workload(1)])
    await kube.wait_ready()
    path = "/apis/apps/v1/namespaces/nats/statefulsets/nats"
    old = (await http.get(path)).json()
    before = uid(kube, "nats-0")
    kube.recreate("apps/v1", "StatefulSet", "nats")
    new = (await http.get(path)).json()
    assert (new["spec"], new["metadata"]["generation"]) == (old["spec"], 1)
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    answer = await http.put(path, json=old)
    assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
    await becomes("another pod", lambda: uid(kube, "nats-0") != before)
    await kube.wait_ready()


async def test_forgotten_changes_expire_watches_and_pages(kube: StandInKubernetes, http: httpx.AsyncClient):
    kube.apply([config_map("a"), config_map("b")])
    first = (await http.get(MAPS, params={"limit": 1})).json()["metadata"]
    kube.apply([config_map("c")])
    kube.expire()
    query = {"watch": 1, "resourceVersion": first["resourceVersion"], "timeoutSeconds": 1}
    told = json.loads((await http.get(MAPS, params=query)).text)
    assert (told["type"], told["object"]["code"]) == ("ERROR", 410)
    answer = await http.get(MAPS, params={"limit": 1, "continue": first["continue"]})
    assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")


# Rights, other clients, and the end.


async def test_with_the_shipped_roles_the_reader_knows_everything_and_changes_nothing(kube: StandInKubernetes):
    text = READER_FILE.read_text().replace("namespace: natsmedic", "namespace: nats")
    kube.apply([raw for raw in yaml.safe_load_all(text) if raw])
    kube.apply(NatsManifest(replicas=1).manifests())
    await kube.wait_ready()
    token = kube.account_token("natsmedic-reader")
    settings = KubernetesSettings(kubeconfig=kube.kubeconfig(token=token), namespace="nats")
    facts = await KubernetesApiReader(settings, SystemClock()).gather()
    # No custom resource is defined here, as in a cluster without NACK.
    assert facts.unknown == ()
    assert not isinstance(facts.workload, Unknown)
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(base_url=kube.url, headers=headers) as reader:
        for method, path in (
            ("DELETE", "pods/nats-0"),
            ("PATCH", "configmaps/nats-config"),
            ("GET", "secrets"),
            ("GET", "pods/nats-0/log"),
        ):
            assert (await reader.request(method, f"/api/v1/namespaces/nats/{path}")).status_code == 403


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
async def test_with_tls_a_token_in_a_file_is_enough_for_the_reader(tmp_path: Path):
    async with StandInKubernetes(tmp_path, tls=True) as kube:
        kube.apply([workload(0)])
        (tmp_path / "token").write_text(kube.token)
        settings = KubernetesSettings(
            server=kube.url, token_file=tmp_path / "token", ca_file=kube.authority, namespace="nats", statefulset="nats"
        )
        facts = await KubernetesApiReader(settings, SystemClock()).gather()
    assert facts.unknown == ()
    assert not isinstance(facts.workload, Unknown)


async def test_the_door_is_open_only_where_it_was_asked_for(tmp_path: Path, kube: StandInKubernetes):
    async with http_client() as nobody, StandInKubernetes(tmp_path / "open", open_door=True) as open_one:
        assert (await nobody.get(open_one.url + MAPS)).status_code == 200
        assert (await nobody.get(kube.url + MAPS)).status_code == 403


async def test_what_is_no_manifest_of_the_stand_in_is_refused(kube: StandInKubernetes):
    with pytest.raises(LabError, match="has no apps/v1 Deployment"):
        kube.apply([{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}])
    with pytest.raises(Refused, match=r"spec\.replicas: Invalid value: -1"):
        kube.apply([workload(-1)])


TOOLS = shutil.which("kubectl"), shutil.which("openssl")


@pytest.mark.skipif(None in TOOLS, reason="no kubectl or no openssl on this machine")
async def test_kubectl_reads_rolls_and_deletes(tmp_path: Path):
    async with StandInKubernetes(tmp_path, tls=True) as kube:
        kube.apply([workload(1)])
        await kube.wait_ready()
        config = str(kube.kubeconfig())

        async def kubectl(*words: str) -> str:
            process = await asyncio.create_subprocess_exec(
                "kubectl",
                "--kubeconfig",
                config,
                *words,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await process.communicate()
            assert process.returncode == 0, said.decode()
            return said.decode()

        assert "nats-0" in await kubectl("get", "pods")
        assert "Server is ready" in await kubectl("logs", "nats-0")
        await kubectl("rollout", "restart", "statefulset/nats")
        await kubectl("rollout", "status", "statefulset/nats", "--timeout=20s")
        await kubectl("delete", "statefulset", "nats", "--wait=false")


async def test_no_process_is_left(tmp_path: Path):
    async with StandInKubernetes(tmp_path) as kube:
        kube.apply([workload(2)])
        await kube.wait_ready()
        pids = [kube.pod_pid(pod) for pod in kube.pods()]
        address = kube.pod_address("nats-0")
        os.kill(pids[0], signal.SIGSTOP)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    async with http_client() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{address}:8222/varz")


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 1.0])
async def test_an_end_in_the_middle_of_a_beginning_leaves_no_process(tmp_path: Path, seconds: float):
    async with StandInKubernetes(tmp_path) as kube:
        prefix = f"--addr\0{kube._kubelet.addresses.prefix}."
        probe = {"httpGet": {"path": "/no-such-page", "port": "monitor"}, "periodSeconds": 1, "failureThreshold": 1}
        kube.apply([workload(3, pod=container(livenessProbe=probe))])
        await asyncio.sleep(seconds)
    assert [line for line in command_lines() if prefix in line] == []


def command_lines() -> list[str]:
    """Of all processes of this machine."""
    found: list[str] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(file.read_text(errors="replace"))
    return found


async def test_two_stand_ins_stay_out_of_each_others_way(tmp_path: Path, kube: StandInKubernetes):
    async with StandInKubernetes(tmp_path / "other") as other:
        for one in (kube, other):
            one.apply([workload(1)])
        for one in (kube, other):
            await one.wait_ready()
        assert kube.pod_address("nats-0") != other.pod_address("nats-0")
        assert kube.url != other.url


async def test_objects_are_stamped_with_the_clock_that_was_passed_in(tmp_path: Path):
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with StandInKubernetes(tmp_path, clock=lambda: moment) as kube:
        (made,) = kube.apply([config_map("a")])
        assert made["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"
