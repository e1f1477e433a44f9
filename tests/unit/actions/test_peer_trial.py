"""The trial before a change of replicas: who is tried, what the servers tell by themselves, and what a trial that one server lacks says."""

from dataclasses import replace
from typing import Any

import pytest

from bot.action import Receipt
from bot.actions._peer_trial import TRIAL_BYTES, TrialParams, config_of, passive_signs, replicas_for, trial_problems
from bot.actions.peer_trials import compose_trials
from bot.actions.stream_probe_end import ACTION as END
from bot.actions.stream_probe_end import TrialEndParams
from bot.actions.stream_probe_peers import ACTION, CREATE_FAILED, NAME_IN_USE, NOT_FOUND, ProbePeers
from bot.actions.stream_scaling import compose_scaling
from bot.errors import ApiRefused, Refused, Unreadable
from bot.model import TRIAL_STREAM, JsonObject, OperationId, Outcome, Snapshot
from tests.unit.actions.scaling_scene import ORDERS, SINGLE, TIMES, Change, Reading, everywhere, grown, stage
from tests.unit.snapshots import Raw, answers, both

OP = OperationId("op_1")
SERVERS = ("n0", "n1", "n2")
DENIED = "could not create storage directory - mkdir /data/jetstream/SYS/_js_/S-R3F-x: operation not permitted"


def params(snapshot: Snapshot | None = None) -> TrialParams:
    (_, raw), _ = compose_trials(snapshot or grown(), [stage()]).stages
    return TrialParams.model_validate(raw)


def made(*lacking: str) -> Change:
    """The trial as each server would report it: ORDERS, a whole stream of three, under the trial's name."""

    def change(raw: Raw) -> None:
        for server in SERVERS:
            for jsz in answers(raw, "JSZ", server):
                for account in jsz["account_details"]:
                    found = [one for one in account["stream_detail"] if one["name"] == "ORDERS"]
                    if server not in lacking:
                        account["stream_detail"] += [one | {"name": TRIAL_STREAM} for one in found]

    return change


def says(server: str, **error: str) -> Change:
    return everywhere("HEALTHZ", server, status="error", errors=[error])


def test_all_servers_that_may_hold_the_stream_are_tried_before_its_first_stage() -> None:
    scaling = compose_scaling(grown(), [SINGLE], 3, replace(TIMES, trial=True))
    kinds = [kind for kind, _ in scaling.stages]
    assert kinds == [ACTION.kind, END.kind, "stream.scale", "stream.scale"]
    tried, ended = TrialParams.model_validate(scaling.stages[0][1]), TrialEndParams.model_validate(scaling.stages[1][1])
    assert (tried.servers, tried.replicas, tried.mark) == (SERVERS, 3, ended.mark)
    assert tried.placement == {"cluster": "lab"}


def test_a_change_to_fewer_replicas_needs_no_trial() -> None:
    scaling = compose_scaling(grown(name="kinds_2.15.1"), [ORDERS], 1, replace(TIMES, trial=True))
    assert [kind for kind, _ in scaling.stages] == ["stream.scale"]


def test_one_trial_is_enough_for_streams_of_one_place() -> None:
    assert len(compose_trials(grown(), [stage(), stage(index=1)]).stages) == 2


def test_where_a_stream_takes_every_subject_no_trial_is_made_and_people_are_told() -> None:
    def everything(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for account in jsz["account_details"]:
                for one in account["stream_detail"]:
                    if one["name"] == "ORDERS":
                        one["config"]["subjects"] = [">"]

    found = compose_trials(grown(everything), [stage()])
    assert found.stages == ()
    assert "stream ORDERS takes >" in found.cautions[0]


def test_servers_of_one_zone_count_once_where_replicas_need_zones_of_their_own() -> None:
    def zoned(raw: Raw) -> None:
        for server, zone in zip(SERVERS, ("az:a", "az:a", "az:b"), strict=True):
            for jsz in answers(raw, "JSZ", server):
                jsz["config"]["unique_tag"] = "az:"
            for varz in answers(raw, "VARZ", server):
                varz["tags"] = [zone]

    assert replicas_for(grown(), SERVERS) == 3
    assert replicas_for(grown(zoned), SERVERS) == 2
    assert replicas_for(grown(), [f"s{n}" for n in range(6)]) == 5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: None, ""),
        (says("n1", type="STREAM", account="APP", stream="X", error="stream catching up"), ""),
        (says("n1", type="JETSTREAM", error="JetStream meta layer write error: no space left"), "The disk of n1 fails"),
        (says("n1", type="STREAM", account="APP", stream="X", error=DENIED), "The disk of n1 fails"),
        (everywhere("JSZ", "n2", disabled=True), "JetStream of n2 is off"),
        (everywhere("JSZ", "n2", config={}), "JetStream of n2 is off"),
    ],
)
def test_what_servers_tell_of_their_disks_comes_first(change: Change, told: str) -> None:
    found = " ".join(passive_signs(grown(change), SERVERS))
    assert told in found
    assert bool(found) is bool(told)


def test_a_server_that_did_not_answer_is_no_healthy_one() -> None:
    def silent(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if (s["server"], s["endpoint"]) != ("n2", "JSZ")]

    assert passive_signs(grown(silent), SERVERS) == ["JetStream of n2 is off, or does not tell where it stores."]


async def test_a_trial_that_all_have_is_verified() -> None:
    found = await ACTION.verify(Reading(grown(made())), params(), OP)  # pyright: ignore[reportArgumentType]
    assert found.outcome is Outcome.VERIFIED
    assert found.sentence == "n0, n1, n2 made the trial stream and follow its leader."


async def test_the_server_that_lacks_it_is_named_with_what_it_says() -> None:
    error = {"type": "STREAM", "account": "APP", "stream": TRIAL_STREAM, "error": "stream not found"}
    snapshot = grown(both(made("n1"), says("n1", **error)))
    found = await ACTION.verify(Reading(snapshot), params(), OP)  # pyright: ignore[reportArgumentType]
    assert found.outcome is Outcome.FAILED
    assert found.sentence.startswith(
        "n1 could not make the trial stream: it does not report it. It says: stream not found."
    )
    assert found.sentence.endswith("Nothing of stream APP > SINGLE was changed.")


def test_a_trial_on_some_servers_is_judged_by_those() -> None:
    wider = params().model_copy(update={"servers": (*SERVERS, "n3")})
    assert trial_problems(grown(made()), wider) == []


async def test_the_preview_says_which_servers_are_not_tried() -> None:
    whole, wider = params(), params().model_copy(update={"servers": (*SERVERS, "n3")})
    reading: Any = Reading(grown())
    assert "3 of the 4 servers are tried" in " ".join((await ACTION.preview(reading, wider)).effects)
    assert "are tried" not in " ".join((await ACTION.preview(reading, whole)).effects)


async def test_a_check_refuses_what_refuses_the_change_itself() -> None:
    found = await ACTION.check(trying(grown(everywhere("VARZ", "n1", start="2026-11-27T11:59:50Z"))), params())
    assert any("n1 started 10 s ago" in reason for reason in found.refusals)
    assert (await ACTION.check(trying(grown()), params())).refusals == ()


class Trying(Reading):
    """Readers of a cluster with a trial as `trial`; an error where nobody answers."""

    def __init__(self, snapshot: Snapshot, trial: JsonObject | Unreadable | None = None) -> None:
        super().__init__(snapshot)
        self.trial = trial

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        if stream != TRIAL_STREAM:
            return await super().stream_info(account, stream)
        if isinstance(self.trial, Unreadable):
            raise self.trial
        return None if self.trial is None else {"config": self.trial}


class Making:
    """Writers that keep what they were asked for; each create is answered with the next of these errors."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.sent: list[str] = []
        self.lost = 0
        self.refusing = 0

    async def create_trial(self, account: str, config: JsonObject) -> JsonObject:
        del account
        self.sent.append(f"create {config['num_replicas']}")
        assert config["max_bytes"] == TRIAL_BYTES
        if self.errors and (code := self.errors.pop(0)):
            raise ApiRefused(500, code, DENIED)
        return {}

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        self.sent.append(f"update {stream} {config['num_replicas']}")
        if self.refusing:
            raise ApiRefused(500, self.refusing, "insufficient storage")
        if self.lost:
            self.lost -= 1
            raise ApiRefused(404, NOT_FOUND, "stream not found")
        return {}

    async def delete_trial(self, account: str) -> None:
        self.sent.append("delete")


def trying(snapshot: Snapshot, trial: JsonObject | Unreadable | None = None) -> Any:
    return Trying(snapshot, trial)


async def applied(writers: Making, trial: JsonObject | None = None) -> list[str]:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    target: Any = writers
    await ProbePeers(sleep).apply(trying(grown(), trial), target, params(), OP)
    return writers.sent


def own(replicas: int = 3, operation: str = OP) -> JsonObject:
    return config_of(params(), OperationId(operation), replicas)


async def test_healthy_servers_are_asked_once() -> None:
    assert await applied(Making()) == ["create 3"]


async def test_a_refused_trial_is_made_with_one_replica_and_grown_so_that_the_sick_server_shows() -> None:
    grown_up = ["create 1", f"update {TRIAL_STREAM} 3"]
    assert await applied(Making(CREATE_FAILED)) == ["create 3", *grown_up]
    assert await applied(Making(CREATE_FAILED, NAME_IN_USE, NAME_IN_USE)) == [
        "create 3",
        "create 1",
        "create 1",
        *grown_up,
    ]


async def test_a_trial_that_is_dropped_with_the_refused_one_is_made_again() -> None:
    dropped = Making(CREATE_FAILED)
    dropped.lost = 2
    grown_up = ["create 1", f"update {TRIAL_STREAM} 3"]
    assert await applied(dropped) == ["create 3", *grown_up * 3]


async def test_one_that_can_t_grow_for_another_reason_is_not_left_behind() -> None:
    stuck = Making(CREATE_FAILED)
    stuck.refusing = 10047
    with pytest.raises(ApiRefused):
        await applied(stuck)
    assert stuck.sent == ["create 3", "create 1", f"update {TRIAL_STREAM} 3", "delete"]


async def test_a_refusal_that_says_nothing_of_a_disk_ends_it() -> None:
    writers = Making(10047)
    with pytest.raises(ApiRefused):
        await applied(writers)
    assert writers.sent == ["create 3"]


async def test_after_a_crash_it_goes_on_where_it_was() -> None:
    assert await applied(Making(), own()) == []
    assert await applied(Making(), own(1)) == [f"update {TRIAL_STREAM} 3"]
    assert await applied(Making(), own(operation="op_0")) == ["delete", "create 3"]
    with pytest.raises(Refused, match="natsmedic did not make"):
        await applied(Making(), {"metadata": {"natsmedic.op": "op_1 of somebody"}})


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (None, Receipt.NOT_APPLIED),
        ({"num_replicas": 3}, Receipt.FOREIGN),
        (own(), Receipt.APPLIED),
        (own(1), Receipt.NOT_APPLIED),
        (own(operation="op_0"), Receipt.NOT_APPLIED),
    ],
)
async def test_the_receipt_is_the_operation_on_a_trial_of_all_members(
    trial: JsonObject | None, expected: Receipt
) -> None:
    assert await ACTION.receipt(trying(grown(), trial), params(), OP) is expected


async def test_while_no_leader_answers_a_member_s_view_is_read_and_silence_is_no_answer() -> None:
    lost = Unreadable("no leader")
    assert await ACTION.receipt(trying(grown(made()), lost), params(), OP) is Receipt.FOREIGN
    with pytest.raises(Unreadable):
        await ACTION.receipt(trying(grown(), lost), params(), OP)


async def test_the_way_back_deletes_only_this_trial() -> None:
    writers: Any = Making()
    assert await ACTION.rollback(trying(grown()), writers, params(), OP) == "The trial stream is gone."
    with pytest.raises(Refused):
        await ACTION.rollback(trying(grown(), own(operation="op_0")), writers, params(), OP)
    assert writers.sent == []
    await ACTION.rollback(trying(grown(), own()), writers, params(), OP)
    assert writers.sent == ["delete"]


async def test_the_end_deletes_the_very_trial_and_needs_nothing_where_it_is_gone() -> None:
    ended, writers = TrialEndParams(account="APP", mark=params().mark), Making()
    target: Any = writers
    assert (await END.check(trying(grown()), ended)).needless
    foreign = trying(grown(), {"metadata": {}})
    assert (await END.check(foreign, ended)).final
    with pytest.raises(Refused):
        await END.apply(foreign, target, ended, OP)
    own_trial = trying(grown(), own() | {"metadata": {"natsmedic.trial": ended.mark}})
    assert (await END.check(own_trial, ended)).refusals == ()
    await END.apply(own_trial, target, ended, OP)
    assert writers.sent == ["delete"]
    assert (await END.verify(trying(grown(made("n0"))), ended, OP)).sentence == "The trial stream is still on n1, n2."
    assert (await END.verify(trying(grown()), ended, OP)).outcome is Outcome.VERIFIED
