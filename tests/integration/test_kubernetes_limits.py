"""Limits of a real cluster in a real Kubernetes are changed by reload: no pod restarts, every server runs with them, and a refused file is taken back."""

from pathlib import Path

import pytest

from bot.actions.kubernetes_limit import FORMER
from bot.actions.limit_change import compose_limit
from bot.errors import Refused
from bot.model import Endpoint, ExecutionState, StageState
from bot.model.limits import Setting, Value, shown
from tests.integration.kubernetes_nats import PASSWORD, Nats, addresses, login, nats_conf, open_nats
from tests.integration.kubernetes_support import IMAGE, NEWER_IMAGE

pytestmark = pytest.mark.kubernetes

SERVERS = ("nats-0", "nats-1", "nats-2")
CONF = f"{nats_conf(addresses(3))}mqtt {{ port: 1883 }}\n"


async def changed(nats: Nats, setting: Setting, value: Value) -> None:
    before, lives = await nats.conf(), await nats.lives()
    composed = compose_limit(*await nats.look(), setting, value)
    assert [kind for kind, _ in composed.stages] == ["kubernetes.limit", *["nats.load_limit"] * 3]
    async with nats.quick_kubelet():
        ended = await nats.desk.carry_out(composed.stages)
    assert ended.state is ExecutionState.DONE, ended.sentence
    assert {run.state for run in ended.stages} == {StageState.VERIFIED}
    assert await nats.lives() == lives
    assert len(await nats.conf()) > len(before)
    with pytest.raises(Refused, match="every server runs with it"):
        compose_limit(*await nats.look(), setting, value)
    proposal = (await nats.desk.proposal_of(ended)).model_dump_json()
    assert PASSWORD not in proposal + ended.model_dump_json()


async def a_refused_file_is_taken_back(nats: Nats) -> None:
    """The included file, which no stage looks at, holds what a server refuses: nobody loads the limit, and nats.conf is as it was."""
    before = await nats.conf()
    execution = await nats.desk.approved(
        await nats.desk.plan(compose_limit(*await nats.look(), Setting.MAX_CONNECTIONS, 80_000).stages)
    )
    await nats.write("routes-login.conf", f"{login(PASSWORD)}no_such_key: 1\n")
    async with nats.quick_kubelet():
        ended = await nats.desk.run(execution)
    assert ended.state is ExecutionState.ROLLED_BACK, ended.sentence
    assert "no_such_key" in ended.sentence
    assert await nats.conf() == before
    raw = await nats.cluster.get("ConfigMap", "nats-config", nats.namespace)
    assert FORMER not in raw["metadata"]["annotations"]


@pytest.mark.parametrize("image", [IMAGE, NEWER_IMAGE])
async def test_limits_are_changed_by_reloads_and_no_pod_restarts(tmp_path: Path, image: str):
    async with open_nats(tmp_path, image, 3, CONF) as nats:
        await changed(nats, Setting.MAX_CONNECTIONS, 90_000)
        snapshot, workload = await nats.look()
        assert {shown(snapshot, name, Setting.MAX_CONNECTIONS) for name in SERVERS} == {90_000}
        if image == IMAGE:
            with pytest.raises(Refused, match=r"does not tell whether it has loaded mqtt.consumer_inactive_threshold"):
                compose_limit(snapshot, workload, Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h")
        else:
            await changed(nats, Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD, "24h")
        with pytest.raises(Refused, match=r"a reload does not change jetstream.request_queue_limit"):
            compose_limit(snapshot, workload, Setting.REQUEST_QUEUE_LIMIT, 20_000)
        await a_refused_file_is_taken_back(nats)
        snapshot, _ = await nats.look()
        assert {(snapshot.data(name, Endpoint.VARZ) or {})["max_connections"] for name in SERVERS} == {90_000}
