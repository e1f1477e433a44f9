"""A higher limit on connections is offered where memory carries it, and only there; how clients are spread is told after it."""

from typing import Any

import pytest

from bot.action import Draft
from bot.model import Finding, Severity, Subject
from runbooks._audit_connections import connection_offers
from runbooks._audit_servers import CONNECTIONS
from tests.unit.actions.kubernetes_scene import Scene
from tests.unit.actions.test_limit_change import CONF, scene

GUIDE = Draft(title="Make room for connections", why="Server nats-0 uses 960 of 1000.", guidance=("by hand",))
MIB = 2**20


def world(limit: int = 1_000, **varz: Any) -> Scene:
    """960 connections on each server and 96 MiB for them, with a GOMEMLIMIT."""
    made = scene(conf=f"max_connections: {limit}\n{CONF}")
    for server in made.servers.values():
        server.varz |= {"connections": 960, "mem": 96 * MIB, "gomemlimit": 1_024 * MIB} | varz
    return made


def found(made: Scene, limit: int = 1_000) -> Finding:
    server = next(iter(made.snapshot().servers)).name
    where = Subject(cluster="prod", server=server)
    return CONNECTIONS.finding(where, Severity.WARNING, GUIDE.why, {"used": 960, "limit": limit})


def offers(made: Scene, limit: int = 1_000) -> tuple[Draft, ...]:
    return connection_offers(made.snapshot(), [found(made, limit)], GUIDE)


def test_half_as_many_again_are_offered_with_a_reload_and_spreading_comes_after_it() -> None:
    raised, spread = offers(world())
    assert [kind for kind, _ in raised.stages] == ["kubernetes.limit", *["nats.load_limit"] * 3]
    assert raised.stages[0][1]["value"] == 1_500
    assert any("limit on open files" in caution for caution in raised.cautions)
    assert (spread.stages, spread.guidance) == ((), GUIDE.guidance)
    assert raised.rung is not None
    assert spread.rung is not None
    assert (bool(raised.rung.go_on), spread.rung.go_on) == (True, "")


# 1,500 connections of 0.1 MiB each need 150 MiB, which is 80 % of 187.5.
@pytest.mark.parametrize(("limit", "offered"), [(187 * MIB, False), (int(187.5 * MIB), True), (188 * MIB, True)])
def test_memory_must_carry_it(limit: int, offered: bool) -> None:
    drafts = offers(world(gomemlimit=limit))
    assert any(draft.stages for draft in drafts) is offered
    assert offered or "may need 150" in drafts[0].guidance[-1]


@pytest.mark.parametrize(("limit", "offered"), [(65_535, True), (65_536, False), (65_537, False)])
def test_nothing_above_the_servers_own_default_is_offered(limit: int, offered: bool) -> None:
    drafts = offers(world(limit, gomemlimit=16_384 * MIB), limit)
    assert any(draft.stages and draft.stages[0][1]["value"] == 65_536 for draft in drafts) is offered


@pytest.mark.parametrize("varz", [{"mem": None}, {"connections": None}, {"gomemlimit": 0}])
def test_without_its_memory_known_nothing_is_raised(varz: dict[str, Any]) -> None:
    (guide,) = offers(world(**varz))
    assert "is not known" in guide.guidance[-1]
