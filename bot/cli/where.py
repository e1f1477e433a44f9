"""What the commands that look at a cluster share: which cluster, as whom, and how they end where it can't be read."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer.core import TyperCommand

from bot.cli.draw import visible
from bot.cli.session import Session, settings_of
from bot.errors import BadInput, NatsmedicError
from bot.model import Snapshot
from bot.ports import ProbingReaders
from bot.registry import Registry
from bot.runbook import Runbook, Thresholds
from bot.settings import ClusterSettings, Settings
from bot.settings.target import Target, addresses

COULD_NOT_TELL: Final = 3
"""Exit code where there is no verdict: unreachable, denied, a wrong option. 0, 1 and 2 are verdicts."""

_LOGIN_PARAMETERS: Final = (
    *("server", "user", "password", "creds", "nkey", "tlsca", "tlscert", "tlskey"),
    *("inbox_prefix", "nats_context", "monitoring"),
)

Server = Annotated[
    str | None,
    typer.Option("--server", "-s", envvar="NATS_URL", metavar="URL", help="Servers, separated by commas."),
]
User = Annotated[
    str | None,
    typer.Option("--user", envvar="NATS_USER", metavar="USER", help="User; a token where there is no password."),
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password", envvar="NATS_PASSWORD", metavar="PASSWORD", help="Others see it in ps; better NATS_PASSWORD."
    ),
]
Creds = Annotated[Path | None, typer.Option("--creds", envvar="NATS_CREDS", metavar="FILE", help="Credentials file.")]
Nkey = Annotated[Path | None, typer.Option("--nkey", envvar="NATS_NKEY", metavar="FILE", help="Seed file of an nkey.")]
Ca = Annotated[Path | None, typer.Option("--tlsca", envvar="NATS_CA", metavar="FILE", help="CA certificates, PEM.")]
Cert = Annotated[
    Path | None, typer.Option("--tlscert", envvar="NATS_CERT", metavar="FILE", help="Client certificate, PEM.")
]
Key = Annotated[Path | None, typer.Option("--tlskey", envvar="NATS_KEY", metavar="FILE", help="Its key, PEM.")]
InboxPrefix = Annotated[
    str | None, typer.Option("--inbox-prefix", metavar="SUBJECT", help="Where answers arrive; _INBOX otherwise.")
]
Context = Annotated[
    str | None, typer.Option("--context", envvar="NATS_CONTEXT", metavar="NAME", help="A context of the nats command.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=60, metavar="SECONDS", help="Wait for an answer.")]
MonitoringUrls = Annotated[
    list[str] | None, typer.Option("--monitoring", metavar="URL", help="HTTP monitoring of one server; repeatable.")
]
Cluster = Annotated[str | None, typer.Option("--cluster", metavar="NAME", help="A cluster of the settings file.")]
Runbooks = Annotated[
    list[str] | None, typer.Option("--runbook", metavar="CODE", help="Only this runbook; repeatable; all otherwise.")
]
ProbeDelivery = Annotated[
    bool,
    typer.Option(
        "--probe-delivery",
        help="Also publish messages of a few bytes through every server, on a private subject, and count them on every other.",
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """The cluster to look at, and the thresholds that settings have for it."""

    cluster: ClusterSettings | Target
    thresholds: Mapping[str, Thresholds]

    @property
    def name(self) -> str:
        return self.cluster.name

    def refuse_probe_without_login(self) -> None:
        """Raise `BadInput` where a delivery probe would have nobody to publish as, before anything is read."""
        if isinstance(self.cluster, Target):
            login = self.cluster.servers or self.cluster.context
        else:
            login = self.cluster.nats.system or self.cluster.nats.accounts
        if not login:
            raise BadInput("--probe-delivery publishes messages, and monitoring addresses can't: give --server too.")


def place_of(
    context: typer.Context,
    config: Path | None,
    name: str | None,
    found: Registry,
    target: Callable[[], Target | None],
) -> Where:
    """Return the cluster that the options name: one of the settings by `name`, else a target, else the only one of the settings.

    Raises `SettingsError`, `BadInput`.
    """
    if name is not None:
        refuse_login(context, "--cluster")
    elif (direct := target()) is not None:
        return Where(direct, thresholds_of(context, config, found))
    settings = _settings(context, config)
    found.check_thresholds(settings.thresholds)
    if name is None and len(settings.clusters) > 1:
        known = ", ".join(cluster.name for cluster in settings.clusters)
        raise BadInput(f"The settings have several clusters: say which with --cluster ({known}).")
    cluster = next(iter(settings.clusters)) if name is None else settings.cluster(name)
    return Where(cluster, settings.thresholds)


def target_of(
    *,
    server: str | None,
    user: str | None,
    password: str | None,
    creds: Path | None,
    nkey: Path | None,
    tlsca: Path | None,
    tlscert: Path | None,
    tlskey: Path | None,
    inbox_prefix: str | None,
    nats_context: str | None,
    monitoring: Sequence[str] | None,
    timeout: float,
) -> Target | None:
    """Return the cluster that the options name, None where they name none. Raises `SettingsError`."""
    if not (server or nats_context or monitoring):
        return None
    return Target(
        servers=addresses(server or ""),
        user=user,
        password=password,
        creds=creds,
        nkey=nkey,
        ca=tlsca,
        cert=tlscert,
        key=tlskey,
        context=nats_context,
        inbox_prefix=inbox_prefix,
        monitoring=tuple(url.rstrip("/") for url in monitoring or ()),
        timeout=timeout,
    )


def thresholds_of(context: typer.Context, config: Path | None, found: Registry) -> Mapping[str, Thresholds]:
    """Return the thresholds of the settings named behind the command; the defaults where none are. Raises `SettingsError`."""
    if config is None:
        return {}
    settings = settings_of(context, config)
    found.check_thresholds(settings.thresholds)
    return settings.thresholds


def refuse_login(context: typer.Context, instead: str) -> None:
    """Raise `BadInput` for options that name a server or a login beside `instead`; the environment may have them."""
    for name in _LOGIN_PARAMETERS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = name.removeprefix("nats_").replace("_", "-")
            raise BadInput(f"--{option} says where to look, and so does {instead}: give one of them.")


def runbooks_of(found: Registry, codes: Sequence[str] | None) -> tuple[Runbook, ...]:
    """Return the runbooks of these codes, all of them where none is given. Raises `BadInput`."""
    return found.chosen(codes or ())


@contextmanager
def progress(text: str) -> Generator[None]:
    """Show on stderr that work is going on, where a person looks."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(visible(text), total=None)
        yield


async def probe_delivery(readers: ProbingReaders, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with what a delivery probe saw, and say on stderr what it sends. Raises `BadInput`."""
    return await readers.probe_delivery(
        snapshot, lambda what: typer.echo(visible(f"natsmedic: delivery probe: {what}"), err=True)
    )


def log_to_stderr() -> None:
    """Keep stdout for the answer."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr), cache_logger_on_first_use=False)


def say(error: NatsmedicError) -> None:
    """Print an error's sentence on stderr."""
    typer.echo(visible(f"natsmedic: {error}", lines=True), err=True)


class VerdictCommand(TyperCommand):
    """A command whose exit codes 0, 1 and 2 are verdicts, so every error ends with 3."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401  click's own signature
        """Parse the options; a wrong one ends with 3."""
        try:
            return super().parse_args(ctx, args)
        except typer.Exit:  # --help and --schema have printed and end well
            raise
        except Exception as error:
            # A usage error carries the exit code of the process. Its class is click's or typer's own copy of it, by version.
            setattr(error, "exit_code", COULD_NOT_TELL)  # noqa: B010
            raise

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  click's own signature
        """Run the command."""
        log_to_stderr()
        try:
            return super().invoke(ctx)
        except NatsmedicError as error:
            if ctx.find_root().params.get("debug"):
                typer.echo(visible(traceback.format_exc(), lines=True), err=True)
            else:
                say(error)
            raise typer.Exit(COULD_NOT_TELL) from None
        except KeyboardInterrupt:
            raise typer.Exit(COULD_NOT_TELL) from None


def _settings(context: typer.Context, config: Path | None) -> Settings:
    path = config or context.ensure_object(Session).config
    if config is None and path == Path("natsmedic.yaml") and not path.exists():
        raise BadInput(
            "No cluster is named: give --server, --context, --monitoring or --archive, or --config with a settings file."
        )
    return settings_of(context, config)
