"""The whole of the settings, and how they are loaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from bot.errors import SettingsError
from bot.model import JsonObject
from bot.settings.audit import AuditSettings
from bot.settings.clusters import ClusterSettings
from bot.settings.limits import LimitSettings
from bot.settings.mistakes import describe
from bot.settings.observing import LogSettings, MetricsSettings, TraceSettings
from bot.settings.people import SlackSettings
from bot.settings.policy import PolicySettings
from bot.settings.retention import RetentionSettings
from bot.settings.section import SecretText, Section, Situation, mapping_of, problem
from bot.settings.shutdown import ShutdownSettings
from bot.settings.threads import ThreadSettings
from bot.settings.webhooks import WebhookSettings
from bot.settings.yaml_file import read_tree


class Mode(StrEnum):
    OBSERVE = "observe"
    """Reads, diagnoses and proposes; nothing can be approved."""
    APPROVE = "approve"


class DatabaseSettings(Section):
    url: SecretText = Field(
        validate_default=True,
        default="sqlite:///natsmedic.db",
        repr=False,
        description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME",
    )
    """SQLAlchemy address without a driver; a relative SQLite file lies below the config file's folder. May carry a password: never print it."""

    @field_validator("url", mode="after")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        if not re.match(r"(sqlite:///.+|postgres(ql)?://.+)", value):
            expected = "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
            raise problem("starts with no known scheme", expected, "write one of the two")
        value = re.sub("^postgres://", "postgresql://", value)  # libpq knows both, SQLAlchemy and DBOS only one
        file = value.removeprefix("sqlite:///")
        if file in {value, ":memory:"} or not isinstance(info.context, Situation):
            return value
        return f"sqlite:///{info.context.locate(file)}"

    @property
    def shown(self) -> str:
        """The address without user and password, for people."""
        return re.sub(r"//[^/]*@", "//", self.url)


class Settings(Section):
    """Everything natsmedic is told."""

    clusters: Annotated[tuple[ClusterSettings, ...], Field(min_length=1)]
    database: DatabaseSettings = DatabaseSettings()
    mode: Mode = Mode.OBSERVE
    slack: SlackSettings | None = None
    policy: PolicySettings = PolicySettings()
    limits: LimitSettings = LimitSettings()
    threads: ThreadSettings = ThreadSettings()
    webhooks: WebhookSettings = WebhookSettings()
    audit: AuditSettings = AuditSettings()
    retention: RetentionSettings = RetentionSettings()
    metrics: MetricsSettings | None = None
    log: LogSettings = LogSettings()
    traces: TraceSettings | None = None
    shutdown: ShutdownSettings = ShutdownSettings()
    thresholds: dict[str, dict[str, float]] = {}
    """Runbook code to threshold name to value; names are checked against the runbooks at start."""

    @model_validator(mode="before")
    @classmethod
    def _locate_default_database(cls, data: object) -> object:
        """The default database, too, lies below the config file's folder, so its default is validated like a written one."""
        written = mapping_of(data)
        return data if written is None else {"database": {}, **written}

    @field_validator("clusters", mode="after")
    @classmethod
    def _distinct(cls, value: tuple[ClusterSettings, ...]) -> tuple[ClusterSettings, ...]:
        names = Counter(cluster.name for cluster in value)
        if twice := [name for name, count in names.items() if count > 1]:
            raise problem(f"names {', '.join(twice)} more than once", "unique names", "rename one of them")
        matches = Counter(tuple(sorted(cluster.match.items())) for cluster in value)
        if len(value) > 1 and (() in matches or max(matches.values()) > 1):
            raise problem(
                "has clusters that the same alert would match",
                "different `match` labels",
                "give each cluster its own labels",
            )
        return value

    @model_validator(mode="after")
    def _clusters_of_policy(self) -> Self:
        names = [cluster.name for cluster in self.clusters]
        if unknown := sorted(set(self.policy.clusters) - set(names)):
            raise problem(
                f"has policy.clusters.{unknown[0]}",
                f"names of clusters ({', '.join(names)})",
                "correct the name, or remove it",
            )
        return self

    @model_validator(mode="after")
    def _approvable(self) -> Self:
        if self.mode is not Mode.APPROVE:
            return self
        reasons = list(self.policy.unapprovable())
        if self.slack is None:
            reasons.append("there is no `slack` section to approve in")
        elif not self.slack.workspaces:
            reasons.append("slack.workspaces is empty, so nobody is at home")
        if reasons:
            raise problem(
                f"has mode approve, but {'; '.join(reasons)}",
                "people for every risk class",
                "name them, or set mode: observe",
            )
        return self

    @model_validator(mode="after")
    def _checkpoints_reachable(self) -> Self:
        names = {cluster.name for cluster in self.clusters}
        for place in self.audit.checkpoints:
            if place.channel is not None and self.slack is None:
                raise problem(
                    "keeps checkpoints in a Slack channel, but has no `slack` section",
                    "one",
                    "add it, or name another place",
                )
            if place.stream is not None and place.stream.cluster not in names:
                raise problem(
                    f"keeps checkpoints on the unknown cluster {place.stream.cluster!r}",
                    "one of `clusters`",
                    "correct the name",
                )
        return self

    @property
    def schedules(self) -> dict[str, tuple[str, ...]]:
        """The runbooks of each cluster that has a schedule, by its name; none named means all."""
        return {c.name: c.schedule.runbooks for c in self.clusters if c.schedule is not None}

    def cluster(self, name: str) -> ClusterSettings:
        """Return the cluster of this name; raises SettingsError where there is none."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        known = ", ".join(cluster.name for cluster in self.clusters)
        raise SettingsError(f"No cluster is called {name!r}. Known: {known}.")


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read the YAML file at `path` with the overrides and secrets of `environ`.

    Raises SettingsError, which lists all mistakes, one per line.
    """
    situation = Situation(folder=path.resolve().parent, environ=environ)
    tree, mistakes = read_tree(path, environ, known=tuple(Settings.model_fields))
    try:
        settings = Settings.model_validate(tree, context=situation)
    except ValidationError as error:
        mistakes += describe(error, Settings)
        settings = None
    if mistakes or settings is None:
        lines = "\n".join(f"  - {mistake}" for mistake in mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise SettingsError(f"{path} has {count}:\n{lines}")
    return settings


def json_schema() -> JsonObject:
    """Return the JSON Schema (draft 2020-12) of the YAML file as a user writes it: `X_file` and `{env: NAME}` included."""
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "natsmedic.yaml"}
