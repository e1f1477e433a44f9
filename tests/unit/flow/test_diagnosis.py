"""What a diagnosis says where NATS is silent and Kubernetes is not."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from bot.actions._facts import look
from bot.errors import Unreachable
from bot.flow.diagnosis import Diagnoser
from bot.model import (
    Again,
    Endpoint,
    Focus,
    KubernetesFacts,
    Severity,
    Snapshot,
    SnapshotId,
    Unknown,
    UnknownReason,
)
from bot.model.kubernetes import ONLY_KUBERNETES
from bot.ports import Readers
from bot.registry import load
from bot.settings import Mode, PolicySettings, ThreadSettings
from tests.integration.store_records import NOW, incident

SILENCE = Unknown(reason=UnknownReason.UNREACHABLE, detail="No server of prod answered.")
DENIED = Unknown(reason=UnknownReason.DENIED, detail="The reader may not list pods.")


class OnlyKubernetes:
    cluster = "prod"
    api_timeout = 5.0

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        del needs, again
        return Snapshot(
            id=SnapshotId("snap_1"),
            cluster="prod",
            taken_at=NOW,
            via=ONLY_KUBERNETES,
            servers=(),
            samples=(),
            unknown=(SILENCE, DENIED),
            kubernetes=KubernetesFacts("queues", NOW, ()),
        )


READERS = cast("Readers", OnlyKubernetes())


async def test_a_silent_cluster_is_named_first_and_keeps_what_kubernetes_said():
    unused: Any = None
    diagnoser = Diagnoser(
        store=unused,
        clock=unused,
        chat=unused,
        readers={"prod": READERS},
        runbooks=load().runbooks,
        stages=unused,
        rules=PolicySettings(),
        limits=unused,
        mode=Mode.OBSERVE,
        writable=(),
        thresholds={},
        threads=ThreadSettings(),
    )
    silent = incident().model_copy(update={"cluster": "prod"})
    judged = await diagnoser._judge(silent, Focus())
    assert judged.snapshot is not None
    assert judged.snapshot.kubernetes is not None
    assert judged.findings[0].check == "CLUSTER_READABLE"
    assert SILENCE.detail in judged.findings[0].sentence
    assert DENIED.detail not in judged.findings[0].sentence
    assert judged.verdict.severity is Severity.UNKNOWN
    assert not any(finding.severity is Severity.OK for finding in judged.findings)


async def test_an_action_does_not_take_a_silent_cluster_for_an_empty_one():
    with pytest.raises(Unreachable, match="No server of prod answered"):
        await look(READERS)
