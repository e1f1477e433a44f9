"""The doctor's look at Kubernetes: the roles that deploy/ ships are exactly what is asked for, in the stand-in API server."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.bootstrap.checking import checks_of
from bot.flow.doctor import examine
from bot.lab.kubernetes import StandInKubernetes
from bot.lab.kubernetes_bot import NAMESPACE, grant
from bot.lab.whole import CHANNEL, free_port
from bot.model.checkup import CheckupLine, Health
from bot.ports import Clock
from bot.settings import Settings
from tests.integration.store_records import FixedClock

pytestmark = pytest.mark.timeout(60)


async def seen_by(tmp_path: Path, reader: Path, applier: Path, ours: Clock | None = None) -> Sequence[CheckupLine]:
    kubernetes = {"kubeconfig": str(reader), "namespace": NAMESPACE, "applier": {"kubeconfig": str(applier)}}
    nats = {"servers": [f"nats://127.0.0.1:{free_port()}"]}
    cluster = {"name": "lab", "channel": CHANNEL, "nats": nats, "kubernetes": kubernetes}
    settings = Settings.model_validate({"clusters": [cluster], "database": {"url": f"sqlite:///{tmp_path}/x.db"}})
    return await examine(checks_of(settings, ours or SystemClock(), "lab"))


async def test_the_shipped_roles_are_exactly_what_is_asked_for(tmp_path: Path) -> None:
    async with StandInKubernetes(tmp_path / "kube", namespace=NAMESPACE) as kube:
        grant(kube)
        reader = kube.kubeconfig(tmp_path / "reader", kube.account_token("natsmedic-reader"))
        applier = kube.kubeconfig(tmp_path / "applier", kube.account_token("natsmedic-applier"))
        lines = await seen_by(tmp_path, reader, applier)
        swapped = await seen_by(tmp_path, applier, reader)
        almighty = await seen_by(tmp_path, kube.kubeconfig(), kube.kubeconfig())
    assert len(lines) > 30
    assert [line.subject for line in lines if "Clock" in line.subject] == ["Clock against Kubernetes of lab"]
    assert [line for line in lines if line.health is not Health.OK] == []
    failed = {line.subject for line in swapped if line.health is Health.FAIL}
    assert "lab: Kubernetes reader: patch statefulsets (apps)" in failed
    assert "lab: Kubernetes reader: list pods" in failed
    assert "lab: Kubernetes applier: delete pods" in failed
    forbidden = {line.subject for line in almighty if line.health is Health.FAIL}
    assert "lab: Kubernetes reader: list secrets" in forbidden
    assert "lab: Kubernetes applier: create pods/exec" in forbidden
    assert not any("get configmaps" in one for one in forbidden)


async def test_a_clock_that_is_a_minute_ahead_of_the_api_servers_fails(tmp_path: Path) -> None:
    async with StandInKubernetes(tmp_path / "kube", namespace=NAMESPACE) as kube:
        ahead = FixedClock()
        ahead.time = SystemClock().now() + timedelta(seconds=60)
        lines = await seen_by(tmp_path, kube.kubeconfig(), kube.kubeconfig(), ahead)
    (clock,) = [line for line in lines if "Clock" in line.subject]
    assert clock.health is Health.FAIL
    assert clock.observed in {f"this machine is {seconds} s ahead" for seconds in range(59, 63)}


async def test_an_api_server_that_is_gone_leaves_every_right_unknown(tmp_path: Path) -> None:
    async with StandInKubernetes(tmp_path / "kube", namespace=NAMESPACE) as kube:
        way_in = kube.kubeconfig()
    lines = await seen_by(tmp_path, way_in, way_in)
    assert {line.health for line in lines} == {Health.UNKNOWN}
