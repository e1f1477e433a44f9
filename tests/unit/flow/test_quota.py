"""A source's quota at its exact edges, on a clock that the test moves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.flow.quota import OverQuota, Quota, Quotas
from tests.integration.store_records import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def quotas(clock: FixedClock) -> Quotas:
    return Quotas({"am": Quota(rate=10.0, burst=100), "other": Quota(rate=1.0, burst=1)}, clock)


@pytest.mark.parametrize(("brought", "admitted"), [(99, True), (100, False), (101, False)])
def test_a_source_may_bring_its_burst_at_once_and_nothing_more(quotas: Quotas, brought: int, admitted: bool) -> None:
    quotas.charge("am", brought)
    if admitted:
        quotas.admit("am")
        return
    with pytest.raises(OverQuota, match="more than 10 alerts per second"):
        quotas.admit("am")


@pytest.mark.parametrize(("brought", "seconds"), [(100, 1), (110, 1), (111, 2), (5_100, 500)])
def test_it_is_told_the_second_from_which_it_may_again(
    quotas: Quotas, clock: FixedClock, brought: int, seconds: int
) -> None:
    quotas.charge("am", brought)
    with pytest.raises(OverQuota) as refused:
        quotas.admit("am")
    assert refused.value.seconds == seconds
    clock.time += timedelta(seconds=seconds) + timedelta(milliseconds=1)
    quotas.admit("am")


def test_a_group_larger_than_the_burst_is_deliverable_and_paid_for_afterwards(
    quotas: Quotas, clock: FixedClock
) -> None:
    quotas.admit("am")
    quotas.charge("am", 1_000)
    clock.time += timedelta(seconds=90)
    with pytest.raises(OverQuota):
        quotas.admit("am")
    clock.time += timedelta(seconds=1)
    quotas.admit("am")


def test_sources_do_not_share_a_bucket_and_natsmedic_itself_has_none(quotas: Quotas) -> None:
    quotas.charge("am", 1_000)
    quotas.admit("other")
    quotas.charge("natsmedic/schedule", 1_000_000)
    quotas.admit("natsmedic/schedule")


def test_a_delivery_without_alerts_costs_one(quotas: Quotas) -> None:
    quotas.charge("other", 0)
    with pytest.raises(OverQuota):
        quotas.admit("other")


def test_a_rest_never_saves_more_than_the_burst(quotas: Quotas, clock: FixedClock) -> None:
    quotas.admit("am")
    clock.time += timedelta(days=1)
    quotas.charge("am", 100)
    with pytest.raises(OverQuota):
        quotas.admit("am")


def test_a_clock_that_is_set_back_pays_nothing_and_blocks_nobody_for_ever(quotas: Quotas, clock: FixedClock) -> None:
    quotas.charge("am", 105)
    clock.time -= timedelta(hours=1)
    with pytest.raises(OverQuota) as refused:
        quotas.admit("am")
    assert refused.value.seconds == 1
    clock.time += timedelta(seconds=1)
    quotas.admit("am")
