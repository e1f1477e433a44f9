"""The pictures of a report, for whoever writes them to files."""

from bot.bootstrap import pictures_of
from bot.flow.examination import examine
from bot.model import Focus
from runbooks import route_mesh, stuck_consumer
from tests.unit.snapshots import recorded


async def test_each_judgement_gives_its_pictures_by_file_name() -> None:
    mesh = examine(recorded("mesh_seed_2.11.11"), route_mesh.RUNBOOK, route_mesh.RUNBOOK.values(), Focus())
    split = examine(recorded("split_2.11.11"), stuck_consumer.RUNBOOK, stuck_consumer.RUNBOOK.values(), Focus())
    whole = examine(recorded("mesh_healthy_2.15.1"), route_mesh.RUNBOOK, route_mesh.RUNBOOK.values(), Focus())
    drawn = await pictures_of([mesh, whole, split], {}, Focus())
    assert list(drawn) == ["1-route-matrix.png", "2-consumer-positions.png"]
    assert all(png.startswith(b"\x89PNG") for png in drawn.values())
