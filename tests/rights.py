"""What natsmedic asks the Kubernetes API for, as the stand-in API server saw it in recorded runs: `tests/rights.txt`, one right a line.

The roles in deploy/ are held against that record (tests/integration/test_rights.py), and whatever a test sees asked must be in it. With
`NATSMEDIC_RECORD_RIGHTS=FILE` every run adds what it saw to that file; to record anew, run the tests that use the stand-in and the kill matrix so, and sort it:

    NATSMEDIC_RECORD_RIGHTS=asked .venv/bin/python -m pytest tests/integration tests/e2e -k "kube or rollout or limit or nack"
    NATSMEDIC_RECORD_RIGHTS=asked .venv/bin/python -m tests.crash --runs 0
    LC_ALL=C sort -u asked > tests/rights.txt
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import pytest

from bot.lab.kubernetes import Attempt, StandInKubernetes

RECORD: Final = Path(__file__).with_name("rights.txt")
MAKING: Final = "NATSMEDIC_RECORD_RIGHTS"
STOP: Final = StandInKubernetes.stop
CLIENT: Final = "natsmedic"
"""How the bot calls itself there (bot/adapters/kubernetes/identity.py, writer.py)."""
_NAMED_BY_OTHERS: Final = frozenset({"nodes", "persistentvolumes", "storageclasses", "controllerrevisions"})
"""Their names are chosen by the cluster, so no role can name them."""
_NONE: Final = "-"


class Right(NamedTuple):
    """`name` is empty where a collection is asked; an ordinal in it stands as `#`, and `*` for one that the cluster chooses."""

    verb: str
    group: str
    resource: str
    name: str

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        named = "*" if attempt.name and attempt.resource in _NAMED_BY_OTHERS else attempt.name
        return cls(attempt.verb, attempt.group, attempt.full, re.sub(r"-\d+$", "-#", named))

    @classmethod
    def read(cls, line: str) -> Self:
        return cls(*("" if word == _NONE else word for word in line.split()))

    def __str__(self) -> str:
        return " ".join(word or _NONE for word in self)


def recorded() -> frozenset[Right]:
    return frozenset(map(Right.read, RECORD.read_text(encoding="utf-8").splitlines()))


def insist_on_record(kube: StandInKubernetes) -> None:
    """Fail where natsmedic has asked this API server for what is not in the record; while one is made, add to it."""
    seen = frozenset(map(Right.of, kube.asked(CLIENT)))
    if target := os.environ.get(MAKING):
        with Path(target).open("a", encoding="utf-8") as file:
            file.writelines(f"{right}\n" for right in sorted(seen))
        return
    new = {str(right) for right in seen - recorded()}
    assert not new, f"natsmedic asks Kubernetes for what no recorded run did, see tests/rights.py: {new}"


@contextmanager
def on_record() -> Generator[None]:
    """Within the block, hold every stand-in that stops against the record."""

    async def stop(kube: StandInKubernetes) -> None:
        await STOP(kube)
        insist_on_record(kube)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StandInKubernetes, "stop", stop)
        yield
