"""How long records are kept: what can be said, and what is said where nothing is."""

from __future__ import annotations

import jsonschema
import pytest
from pydantic import ValidationError

from bot.settings import RetentionSettings, json_schema


def schema() -> dict[str, object]:
    whole = json_schema()
    return {"$ref": "#/$defs/RetentionSettings", "$defs": whole["$defs"]}


@pytest.mark.parametrize("name", ["incidents", "snapshots", "deliveries"])
@pytest.mark.parametrize(
    ("days", "allowed"), [(0, True), (30, True), (3_650, True), (29, False), (1, False), (-1, False)]
)
def test_days_are_thirty_or_more_or_zero_which_keeps_for_ever(name: str, days: int, allowed: bool) -> None:
    if allowed:
        assert getattr(RetentionSettings.model_validate({name: days}), name) == days
        jsonschema.validate({name: days}, schema())
        return
    with pytest.raises(ValidationError):
        RetentionSettings.model_validate({name: days})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: days}, schema())


def test_an_incident_outlives_its_snapshots_where_nothing_is_said() -> None:
    told = RetentionSettings()
    assert 0 < told.snapshots <= told.incidents
    assert 0 < told.deliveries <= told.incidents
