"""What looks and changes nothing: runbooks, readers, archives, reports. It loads neither the database nor Slack, so a command answers at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from bot import registry as registries
from bot.adapters.archive import read_archive, redact, write_archive
from bot.adapters.charts import draw
from bot.adapters.clock import SystemClock
from bot.adapters.nats import NatsReaders, connect_cluster, connect_target
from bot.adapters.timed import timed
from bot.flow.examination import Judgement, Report, report
from bot.flow.illustration import illustrate
from bot.model import Focus, Snapshot
from bot.ports import UNMETERED, Clock, KubernetesReader, KubernetesWriter, Meter, ProbingReaders, System
from bot.registry import Registry
from bot.runbook import Thresholds
from bot.settings import ClusterSettings
from bot.settings.target import Target


def registry() -> Registry:
    """Find runbooks and actions; a bad one is refused here, at start."""
    return registries.load()


@asynccontextmanager
async def open_readers(where: ClusterSettings | Target) -> AsyncGenerator[ProbingReaders]:
    """Open the readers of one cluster, without any writer. Raises `NatsmedicError` where it can't be asked."""
    clock = SystemClock()
    if isinstance(where, Target):
        readers = await connect_target(where, clock)
    else:
        readers, writers = await connect_cluster(where, clock)
        if writers is not None:
            await writers.aclose()  # nothing has connected yet; a diagnosis holds no way to write
    try:
        yield readers if isinstance(where, Target) else both_sides(readers, where, clock)
    finally:
        await readers.aclose()


def both_sides(nats: NatsReaders, cluster: ClusterSettings, clock: Clock, meter: Meter = UNMETERED) -> ProbingReaders:
    """Return readers that look at Kubernetes, too, where the settings say how."""
    asked: ProbingReaders = timed(nats, System.NATS, meter, cluster.name)
    if cluster.kubernetes is None:
        return asked
    # The client library takes a second to import, and most clusters on the command line have no Kubernetes.
    from bot.adapters.cluster import ClusterReaders  # noqa: PLC0415
    from bot.adapters.kubernetes import KubernetesApiReader, KubernetesApiWriter  # noqa: PLC0415

    applier = cluster.kubernetes.as_applier
    rehearser: KubernetesWriter | None = KubernetesApiWriter(applier) if applier is not None else None
    reader: KubernetesReader = timed(
        KubernetesApiReader(cluster.kubernetes, clock), System.KUBERNETES, meter, cluster.name
    )
    return ClusterReaders(asked, reader, clock, timed(rehearser, System.KUBERNETES, meter, cluster.name))


def snapshot_of_archive(archive: bytes) -> Snapshot:
    """Read gathered evidence back. Raises `BadInput`."""
    return read_archive(archive)


def archive_of(snapshot: Snapshot) -> bytes:
    """Return the snapshot as an archive without secrets."""
    return write_archive(snapshot)


def report_on(snapshot: Snapshot, judged: Sequence[Judgement], found: Registry) -> Report:
    """Return what all these judgements say together, and leave secrets out of what they quote."""
    risks = {kind: action.risk for kind, action in found.actions.items()}
    made = report(snapshot, judged, risks)
    return Report.model_validate(redact(made.model_dump(mode="json")))


async def pictures_of(
    judged: Sequence[Judgement], overrides: Mapping[str, Thresholds], focus: Focus
) -> Mapping[str, bytes]:
    """Return what these judgements find easier to see than to read: PNGs by file name, in the order of the judgements."""
    charts = [chart for one in judged for chart in illustrate(one, overrides.get(one.runbook.code), focus)]
    return {f"{number}-{chart.slug}.png": await draw(chart) for number, chart in enumerate(charts, start=1)}
