"""`natsmedic gather`: everything a diagnosis reads, in one file that `natsmedic diagnose --archive` judges later and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bot.cli import where
from bot.cli.session import ConfigFile, run
from bot.errors import BadInput
from bot.flow.examination import look
from bot.model import Endpoint, Focus, Snapshot
from bot.registry import Registry
from bot.settings.clusters import NATS_TIMEOUT


def gather(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The ZIP archive to write.")],
    server: where.Server = None,
    user: where.User = None,
    password: where.Password = None,
    creds: where.Creds = None,
    nkey: where.Nkey = None,
    tlsca: where.Ca = None,
    tlscert: where.Cert = None,
    tlskey: where.Key = None,
    inbox_prefix: where.InboxPrefix = None,
    nats_context: where.Context = None,
    monitoring: where.MonitoringUrls = None,
    timeout: where.Timeout = NATS_TIMEOUT,
    cluster: where.Cluster = None,
    probe_delivery: where.ProbeDelivery = False,
    config: ConfigFile = None,
) -> None:
    """Write what a diagnosis of all runbooks reads into an archive, without secrets. Exit code 3: nothing could be read."""
    from bot.bootstrap import archive_of, registry

    found = registry()
    place = where.place_of(
        context,
        config,
        cluster,
        found,
        lambda: where.target_of(
            server=server,
            user=user,
            password=password,
            creds=creds,
            nkey=nkey,
            tlsca=tlsca,
            tlscert=tlscert,
            tlskey=tlskey,
            inbox_prefix=inbox_prefix,
            nats_context=nats_context,
            monitoring=monitoring,
            timeout=timeout,
        ),
    )
    if probe_delivery:
        place.refuse_probe_without_login()
    snapshot = run(_snapshot(place, found, probe_delivery=probe_delivery))
    _write(output, archive_of(snapshot))
    known = sum(sample.data is not None for sample in snapshot.samples) + len(snapshot.api)
    unknown = len(snapshot.unknown) + sum(sample.unknown is not None for sample in snapshot.samples)
    typer.echo(f"{output}: {len(snapshot.servers)} servers, {known} answers, {unknown} unknown facts.")


async def _snapshot(place: where.Where, found: Registry, *, probe_delivery: bool) -> Snapshot:
    from bot.bootstrap import open_readers

    async with open_readers(place.cluster) as readers:
        with where.progress(f"Reading cluster {place.name}"):
            snapshot, _ = await look(readers, found.runbooks, place.thresholds, Focus(), also=frozenset(Endpoint))
        return await where.probe_delivery(readers, snapshot) if probe_delivery else snapshot


def _write(output: Path, archive: bytes) -> None:
    """Write beside the file and replace it: a failed write leaves no half archive. Evidence is for its owner's eyes."""
    part = output.with_name(f".{output.name}.part")
    try:
        part.touch(mode=0o600)
        part.write_bytes(archive)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadInput(f"{output} cannot be written: {error.strerror}.") from None
