"""Slices of clients at every limit: who goes, when nobody need go, and what makes a slice a failure."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from bot.action import Receipt
from bot.actions.clients_shed import Goal, Shed, ShedParams
from bot.actions.shedding import NOTICE, Pace, compose_shed
from bot.errors import NoResponders, OutcomeUnknown, Refused, ServerRefused, Unreachable, WriteDenied
from bot.model import Endpoint, JsonObject, OperationId, Outcome
from bot.model.clients import ClientKind, Selection
from tests.unit.actions.client_world import MQTT, OWN, SYSTEM, World, crowded

OP = OperationId("op_1")


def one_slice(goal: Goal = Goal.EVEN) -> tuple[World, Shed, ShedParams]:
    world = crowded()
    return world, Shed(world.sleep), world.slices()[0].model_copy(update={"goal": goal})


async def applied(world: World, action: Shed, params: ShedParams) -> None:
    readers, writers = world.ports
    await action.apply(readers, writers, params, OP)


# --- composing ------------------------------------------------------------------------------------------------------------------


def test_the_youngest_clients_go_until_the_server_has_its_share_in_slices_of_alike_size() -> None:
    world = crowded()
    slices = world.slices()
    assert [len(one.cids) for one in slices] == [20, 20, 20]
    going = [cid for one in slices for cid in one.cids]
    assert going == list(range(92, 32, -1))
    assert {(one.server_id, one.goal, one.notice, one.per_second) for one in slices} == {
        ("ID-n0", Goal.EVEN, 0.0, 10.0)
    }


def test_what_is_over_is_spread_over_the_slices() -> None:
    assert [len(one.cids) for one in crowded(93).slices()] == [16, 16, 15, 15]


@pytest.mark.parametrize(("clients", "offered"), [(29, False), (30, True)])
def test_fewer_than_twenty_too_many_are_left_where_they_are(clients: int, offered: bool) -> None:
    world = crowded(clients)
    if offered:
        assert [len(one.cids) for one in world.slices()] == [20]
        return
    with pytest.raises(Refused, match="n0 has 29 MQTT clients and its share is 10: fewer than 20 could go"):
        world.slices()


def test_one_proposal_lets_go_no_more_than_its_cap_and_says_what_is_left() -> None:
    composed = compose_shed(crowded().snapshot, "n0", MQTT, Pace(10.0, 20, 40, 0.7, 1000))
    assert [len(params["cids"]) for _, params in composed.stages] == [20, 20]
    assert "n0 still has 20 too many afterwards: they are for a next proposal." in composed.cautions
    assert "40 clients in 2 slices, 4 s in all; between two slices CPU and API queues are read." in composed.cautions


def test_own_connections_and_the_system_accounts_never_go() -> None:
    world = crowded(0)
    for fields in (OWN, SYSTEM):
        world.arrive("n0", 100, **fields, mqtt_client="")
    with pytest.raises(Refused, match="n0 has 0 clients"):
        world.slices(Selection())


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(), 30 + 60),
        (Selection(kinds=(ClientKind.NATS,)), 60),
        (Selection(account="BILLING"), 60),
        (Selection(account="APP"), 30),
        (Selection(name="worker"), 60),
        (Selection(kinds=(ClientKind.WEBSOCKET,)), None),
    ],
)
def test_clients_are_chosen_by_kind_account_and_name(selection: Selection, count: int | None) -> None:
    world = crowded(30)
    world.arrive("n0", 60, type="nats", account="BILLING", name="worker", mqtt_client=None)
    if count is None:
        with pytest.raises(Refused, match="No server but n0 takes WebSocket clients"):
            world.slices(selection)
        return
    assert sum(len(one.cids) for one in world.slices(selection)) == count - -(-count // 3)


def subscribed(world: World, server: str, subjects: dict[str, Sequence[int]]) -> None:
    world.servers[server].subscriptions += [
        {"cid": cid, "subject": subject} for subject, cids in subjects.items() for cid in cids
    ]


def test_clients_are_chosen_by_what_they_are_subscribed_to() -> None:
    world = crowded(0)
    sensors, others = world.arrive("n0", 60), world.arrive("n0", 60)
    subscribed(
        world, "n0", {"telemetry.*.temp": sensors, "orders.new": [*others, sensors[0]], "telemetry.>": others[:0]}
    )
    slices = world.slices(Selection(subject="telemetry.>"))
    assert [cid for one in slices for cid in one.cids] == list(reversed(sensors))[:40]
    assert str(slices[0].selection) == "clients with subscriptions of 'telemetry.>'"
    with pytest.raises(Refused, match=r"n0 has 0 clients with subscriptions of 'telemetry\.a\.temp'"):
        world.slices(Selection(subject="telemetry.a.temp"))


@pytest.mark.parametrize("fault", ["unread", "cut off"])
def test_nobody_is_chosen_by_subscriptions_that_are_not_all_known(fault: str) -> None:
    world = crowded()
    subscribed(world, "n0", {"telemetry.x": [row["cid"] for row in world.servers["n0"].clients]})
    assert world.slices(Selection(subject="telemetry.>"))
    if fault == "unread":
        world.unread = frozenset({Endpoint.SUBSZ})
    else:
        world.servers["n1"].untold = 1
    with pytest.raises(Refused, match=r"What the clients of n[0-9, n]+ are subscribed to is not known"):
        world.slices(Selection(subject="telemetry.>"))
    assert world.slices()


def test_those_who_understand_it_get_a_notice_first() -> None:
    world = crowded(0)
    world.arrive("n0", 60, type="nats", name="worker", mqtt_client=None)
    assert {one.notice for one in world.slices(Selection(kinds=(ClientKind.NATS,)))} == {NOTICE}


def test_a_busy_server_is_relieved_until_it_is_calm() -> None:
    world = crowded()
    world.servers["n0"].cpu = 140.0
    assert {one.goal for one in world.slices()} == {Goal.CALM}


def test_servers_that_take_no_such_clients_are_not_counted() -> None:
    world = crowded()
    world.servers["n2"].mqtt = False
    assert sum(len(one.cids) for one in world.slices()) == 45
    world.servers["n1"].mqtt = False
    with pytest.raises(Refused, match="No server but n0 takes MQTT clients"):
        world.slices()


def test_a_list_of_clients_that_is_not_whole_is_unknown() -> None:
    world = crowded()
    world.servers["n0"].silent = True
    with pytest.raises(Refused, match="Which clients n0 has is not known"):
        world.slices()
    world = crowded()
    world.servers["n1"].silent = True
    with pytest.raises(Refused, match="Which clients n1 has is not known, and so not whether they could take more"):
        world.slices()


# --- checking -------------------------------------------------------------------------------------------------------------------


async def test_a_crowded_server_is_checked_and_its_life_is_the_world() -> None:
    world, action, params = one_slice()
    check = await action.check(world.ports[0], params)
    assert (check.refusals, check.needless, check.world) == ((), "", {"n0.id": "ID-n0"})
    assert (check.before["clients of n0"], check.before["clients of n1"], check.before["CPU of n0"]) == (90, 0, "5%")


async def test_a_server_that_was_restarted_has_other_clients_for_good() -> None:
    world, action, params = one_slice()
    world.servers["n0"].id = "ID-new"
    check = await action.check(world.ports[0], params)
    assert (check.refusals, check.final) == (
        ("n0 was restarted since: its clients have all connected anew.",),
        True,
    )


@pytest.mark.parametrize(("own", "needless"), [(31, ""), (30, "n0 has 30 MQTT clients, no more than its share of 30.")])
async def test_nobody_goes_once_the_server_has_its_share(own: int, needless: str) -> None:
    world, action, params = one_slice()
    for server, count in (("n1", 30), ("n2", 90 - own - 30)):
        world.arrive(server, count)
    world.leave("n0", list(range(3, 3 + 90 - own)), "Client Closed")
    assert (await action.check(world.ports[0], params)).needless == needless


async def test_nobody_goes_where_all_of_the_slice_have_left() -> None:
    world, action, params = one_slice()
    world.leave("n0", params.cids, "Client Closed")
    check = await action.check(world.ports[0], params)
    assert check.needless == "The 20 clients of this slice have left n0 by themselves."


@pytest.mark.parametrize(
    ("goal", "cpu", "waiting", "calm"),
    [
        (Goal.CALM, 139.0, 999, True),
        (Goal.CALM, 140.0, 999, False),
        (Goal.CALM, 139.0, 1000, False),
        (Goal.EVEN, 10.0, 0, False),
    ],
)
async def test_a_server_that_is_relieved_is_left_alone_once_it_is_calm(
    goal: Goal, cpu: float, waiting: int, calm: bool
) -> None:
    world, action, params = one_slice(goal)
    world.servers["n0"].cpu, world.servers["n0"].waiting = cpu, waiting
    check = await action.check(world.ports[0], params)
    assert check.needless == (
        "n0 uses 70% of its CPU and has 999 API requests waiting: it is no longer overloaded." if calm else ""
    )
    assert check.refusals == ()


async def test_a_server_that_does_not_tell_its_load_is_not_calm() -> None:
    world, action, params = one_slice(Goal.CALM)
    world.unread = frozenset({Endpoint.IPQUEUESZ})
    check = await action.check(world.ports[0], params)
    assert check.needless == ""


@pytest.mark.parametrize(
    ("cpu", "waiting", "refusals"),
    [
        (139.0, 999, ()),
        (140.0, 0, ("n1 uses 70% of its CPU.",)),
        (0.0, 1000, ("n1 has 1000 API requests waiting.",)),
    ],
)
async def test_busy_servers_get_no_more_clients(cpu: float, waiting: int, refusals: tuple[str, ...]) -> None:
    world, action, params = one_slice()
    world.servers["n1"].cpu, world.servers["n1"].waiting = cpu, waiting
    assert (await action.check(world.ports[0], params)).refusals == refusals
    if refusals:
        with pytest.raises(Refused, match=refusals[0]):
            world.slices()


@pytest.mark.parametrize(("room", "refused"), [(10, False), (9, True)])
async def test_the_other_servers_must_accept_the_connections(room: int, refused: bool) -> None:
    world, action, params = one_slice()
    for name in ("n1", "n2"):
        world.servers[name].room = room
    refusals = (await action.check(world.ports[0], params)).refusals
    assert refusals == (("The other servers accept 18 more connections, not 20.",) if refused else ())


async def test_a_silent_server_is_no_server_that_could_take_them() -> None:
    world, action, params = one_slice()
    world.servers["n2"].silent = True
    assert "Which clients n2 has is not known" in (await action.check(world.ports[0], params)).refusals[0]
    world.servers["n0"].silent = True
    with pytest.raises(Unreachable):
        await action.check(world.ports[0], params)


# --- applying -------------------------------------------------------------------------------------------------------------------


async def test_the_clients_of_the_slice_are_let_go_one_by_one_at_the_rate() -> None:
    world, action, params = one_slice()
    assert await action.receipt(world.ports[0], params, OP) is Receipt.NOT_APPLIED
    await applied(world, action, params)
    assert (world.kicked, world.warned) == (list(params.cids), [])
    assert world.slept == pytest.approx(2.0)
    assert await action.receipt(world.ports[0], params, OP) is Receipt.APPLIED


async def test_they_are_warned_first_and_only_those_who_stay_are_disconnected() -> None:
    world = crowded(0)
    world.arrive("n0", 30, type="nats", name="worker", mqtt_client=None)
    action, (params,) = Shed(world.sleep), world.slices(Selection())

    async def sleep(seconds: float) -> None:
        if seconds == NOTICE:
            world.leave("n0", params.cids[:5], "Client Closed")
        await world.sleep(seconds)

    await applied(world, Shed(sleep), params)
    assert (world.warned, world.kicked) == (list(params.cids), list(params.cids[5:]))
    assert await action.receipt(world.ports[0], params, OP) is Receipt.APPLIED


async def test_who_left_meanwhile_is_not_missed() -> None:
    world, action, params = one_slice()
    world.leave("n0", params.cids[:3], "Client Closed")
    world.faults[0] = ServerRefused("disconnect", 500, "no such client or leafnode id")
    await applied(world, action, params)
    assert world.kicked == list(params.cids[3:])
    assert await action.receipt(world.ports[0], params, OP) is Receipt.NOT_APPLIED
    await applied(world, action, params)
    assert world.kicked == [*params.cids[3:], params.cids[3]]
    assert await action.receipt(world.ports[0], params, OP) is Receipt.APPLIED


async def test_a_lost_answer_is_unknown_and_the_connections_say_what_happened() -> None:
    world, action, params = one_slice()
    world.faults[4] = OutcomeUnknown("no answer")
    with pytest.raises(OutcomeUnknown, match="1 of 20 requests to disconnect a client were not answered"):
        await applied(world, action, params)
    assert len(world.kicked) == 20
    assert await action.receipt(world.ports[0], params, OP) is Receipt.APPLIED


@pytest.mark.parametrize("error", [WriteDenied("denied"), NoResponders("nobody")])
async def test_a_no_to_the_first_is_a_definite_one_and_to_a_later_one_is_not(error: Exception) -> None:
    world, action, params = one_slice()
    world.faults[0] = error
    with pytest.raises(type(error)):
        await applied(world, action, params)
    world, action, params = one_slice()
    world.faults[7] = error
    with pytest.raises(OutcomeUnknown, match="7 of 20 were disconnected, then: "):
        await applied(world, action, params)
    assert await action.receipt(world.ports[0], params, OP) is Receipt.NOT_APPLIED


async def test_connections_of_another_life_are_not_touched() -> None:
    world, action, params = one_slice()
    world.servers["n0"].id = "ID-new"
    with pytest.raises(Refused, match="restarted"):
        await applied(world, action, params)
    assert world.kicked == []


async def test_all_gone_without_natsmedic_is_no_receipt() -> None:
    world, action, params = one_slice()
    world.leave("n0", params.cids, "Client Closed")
    assert await action.receipt(world.ports[0], params, OP) is Receipt.NOT_APPLIED


# --- verifying ------------------------------------------------------------------------------------------------------------------


async def judged(back: int, elsewhere: int, **others: float) -> tuple[Outcome, bool, str, World]:
    world, action, params = one_slice()
    world.servers["n1"].behind = timedelta(seconds=30)
    world.servers["n2"].behind = timedelta(seconds=-30)
    await applied(world, action, params)
    world.now += timedelta(seconds=1)
    world.arrive("n0", back)
    world.arrive("n1", elsewhere // 2)
    world.arrive("n2", elsewhere - elsewhere // 2)
    world.now += timedelta(seconds=1)
    for key, value in others.items():
        setattr(world.servers["n1"], key, value)
    seen = await action.verify(world.ports[0], params, OP)
    assert (seen.numbers["let go"], seen.numbers["new on n0"], seen.numbers["new elsewhere"]) == (20, back, elsewhere)
    return seen.outcome, seen.final, seen.sentence, world


async def test_clients_that_connect_elsewhere_are_verified_with_numbers() -> None:
    outcome, final, sentence, _ = await judged(6, 14)
    assert (outcome, final) == (Outcome.VERIFIED, False)
    assert sentence == (
        "20 clients were let go; since then 6 have connected to n0 and 14 to other servers. "
        "It has 76 now, its share is 30, and it uses 5% of its CPU and has 0 API requests waiting."
    )


@pytest.mark.parametrize(("back", "failed"), [(14, False), (15, True)])
async def test_three_quarters_that_come_straight_back_are_a_failure(back: int, failed: bool) -> None:
    outcome, final, sentence, _ = await judged(back, 20 - back)
    assert (outcome is Outcome.FAILED, final, "They come straight back to n0" in sentence) == (failed,) * 3


@pytest.mark.parametrize(("elsewhere", "failed"), [(39, False), (40, True)])
async def test_twice_as_many_new_clients_elsewhere_are_a_storm(elsewhere: int, failed: bool) -> None:
    outcome, final, sentence, _ = await judged(0, elsewhere)
    assert (outcome is Outcome.FAILED, final, "The other servers are stormed" in sentence) == (failed,) * 3


@pytest.mark.parametrize(("elsewhere", "outcome"), [(10, Outcome.VERIFIED), (9, Outcome.FAILED)])
async def test_half_of_them_must_have_connected_again(elsewhere: int, outcome: Outcome) -> None:
    seen, final, sentence, _ = await judged(0, elsewhere)
    assert (seen, final) == (outcome, False)
    assert ("Too few have connected again" in sentence) is (outcome is Outcome.FAILED)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ({"cpu": 139.0, "waiting": 999}, ""),
        ({"cpu": 140.0}, "n1 uses 70% of its CPU"),
        ({"waiting": 1000}, "n1 has 1000"),
    ],
)
async def test_other_servers_at_their_limits_are_a_failure_unless_it_passes(load: dict[str, float], said: str) -> None:
    outcome, final, sentence, _ = await judged(6, 14, **load)
    assert (outcome is Outcome.FAILED, final) == (bool(said), False)
    assert said in sentence


async def test_clients_that_are_still_there_are_counted() -> None:
    world, action, params = one_slice()
    world.faults[3] = ServerRefused("disconnect", 500, "some other error")
    await applied(world, action, params)
    seen = await action.verify(world.ports[0], params, OP)
    assert (seen.outcome, seen.sentence) == (Outcome.FAILED, "1 of 20 clients are still connected to n0.")


async def test_a_restart_ends_the_verification() -> None:
    world, action, params = one_slice()
    world.servers["n0"].closed = []
    closed = world.closed_clients

    async def gone(server_id: str) -> Sequence[JsonObject]:
        found = await closed(server_id)
        world.servers["n0"].id = "ID-new"
        return found

    world.closed_clients = gone
    seen = await action.verify(world.ports[0], params, OP)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, True)


async def test_there_is_no_way_back_and_the_preview_says_so() -> None:
    world, action, params = one_slice()
    readers, writers = world.ports
    preview = await action.preview(readers, params)
    assert preview.summary == "20 clients leave n0, 10 a second: 20 MQTT of APP"
    assert preview.diff == "-n0: 90 MQTT clients\n+n0: 70 MQTT clients, before any of them comes back"
    assert preview.way_back.startswith("None: nobody can send clients back.")
    assert any("QoS 1 or 2 is sent again" in effect for effect in preview.effects)
    with pytest.raises(Refused, match="nobody can send them back"):
        await action.rollback(readers, writers, params, OP)
