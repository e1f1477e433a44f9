"""The chain verification, on chains made in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import BadInput
from bot.flow.audit import ChainVerifier, Checkpoint, export_lines, read_lines, verify
from bot.model import GENESIS, AuditEntry, AuditLine, canonical_json

START = datetime(2026, 11, 21, tzinfo=UTC)


def sealed(entry: AuditEntry) -> AuditEntry:
    return entry.model_copy(update={"hash": entry.computed_hash()})


def chain(length: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for seq in range(1, length + 1):
        entry = AuditEntry(
            seq=seq,
            at=START + timedelta(seconds=seq),
            kind="stage.applied",
            actor="bot",
            incident_id="inc_1" if seq % 2 else None,
            subject="prop_1",
            sentence=f"Stage {seq} is applied – ümläut \u2028.",
            data={"numbers": [seq, 0.1, None], "nested": {"ok": True}},
            previous=entries[-1].hash if entries else GENESIS,
            hash="",
        )
        entries.append(sealed(entry))
    return entries


def test_an_untouched_chain_is_intact_and_names_its_head() -> None:
    entries = chain(5)
    report = verify(entries)
    assert report.intact
    assert (report.rows, report.head_hash, report.checkpoint_matched) == (5, entries[-1].hash, None)
    assert report.reason == "All 5 rows verify."


def test_an_empty_chain_is_intact_until_a_checkpoint_says_otherwise() -> None:
    assert verify([]).intact
    report = verify([], checkpoint=Checkpoint(seq=1, hash="a" * 64))
    assert (report.first_bad_seq, report.checkpoint_matched) == (1, False)


@settings(deadline=None)
@given(length=st.integers(2, 12), data=st.data())
def test_every_edit_of_one_field_is_found_at_its_row(length: int, data: st.DataObject) -> None:
    entries = chain(length)
    at = data.draw(st.integers(0, length - 1))
    field, value = data.draw(
        st.sampled_from(
            [
                ("at", START),
                ("kind", "stage.denied"),
                ("actor", "mallory"),
                ("incident_id", "inc_2"),
                ("subject", ""),
                ("sentence", "Nothing happened."),
                ("data", {}),
                ("previous", "f" * 64),
                ("hash", "f" * 64),
            ]
        )
    )
    entries[at] = entries[at].model_copy(update={field: value})
    assert verify(entries).first_bad_seq == at + 1


@settings(deadline=None)
@given(length=st.integers(3, 12), data=st.data())
def test_an_edit_that_seals_its_own_row_again_is_found_at_the_next(length: int, data: st.DataObject) -> None:
    entries = chain(length)
    at = data.draw(st.integers(0, length - 2))
    entries[at] = sealed(entries[at].model_copy(update={"actor": "mallory"}))
    assert verify(entries).first_bad_seq == at + 2


@settings(deadline=None)
@given(length=st.integers(3, 12), data=st.data())
def test_a_deleted_row_is_found(length: int, data: st.DataObject) -> None:
    entries = chain(length)
    at = data.draw(st.integers(0, length - 2))
    del entries[at]
    assert verify(entries).first_bad_seq == at + 1


@settings(deadline=None)
@given(length=st.integers(2, 12), data=st.data())
def test_an_inserted_row_is_found(length: int, data: st.DataObject) -> None:
    entries = chain(length)
    at = data.draw(st.integers(0, length - 1))
    before = entries[at]
    entries.insert(at, sealed(before.model_copy(update={"actor": "mallory"})))
    assert verify(entries).first_bad_seq in {at + 1, at + 2}


@settings(deadline=None)
@given(length=st.integers(2, 12), data=st.data())
def test_two_rows_that_changed_places_are_found(length: int, data: st.DataObject) -> None:
    entries = chain(length)
    at = data.draw(st.integers(0, length - 2))
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    assert verify(entries).first_bad_seq == at + 1


def test_a_cut_off_tail_is_found_with_a_checkpoint_only() -> None:
    entries = chain(6)
    head = verify(entries).head
    assert verify(entries[:4]).intact
    report = verify(entries[:4], checkpoint=head)
    assert (report.first_bad_seq, report.checkpoint_matched, report.rows) == (5, False, 4)
    assert "cut off" in report.reason


def test_a_chain_rewritten_from_some_row_on_is_found_with_a_checkpoint_only() -> None:
    honest = chain(6)
    forged = honest[:3]
    for entry in honest[3:]:
        forged.append(sealed(entry.model_copy(update={"actor": "mallory", "previous": forged[-1].hash})))
    assert verify(forged).intact
    report = verify(forged, checkpoint=verify(honest).head)
    assert (report.first_bad_seq, report.checkpoint_matched) == (6, False)


def test_at_a_row_that_is_not_the_checkpoints_it_is_said_at_once() -> None:
    entries = chain(5)
    verifier = ChainVerifier(Checkpoint(seq=3, hash="a" * 64))
    assert [verifier.add(entry.line) for entry in entries] == [True, True, False, False, False]


def test_a_checkpoint_in_the_middle_matches_a_longer_chain() -> None:
    entries = chain(6)
    report = verify(entries, checkpoint=Checkpoint(seq=4, hash=entries[3].hash))
    assert report.intact
    assert report.checkpoint_matched
    assert report.reason == "All 6 rows verify, and row 4 matches the checkpoint."


def test_a_checkpoint_of_the_last_row_matches() -> None:
    entries = chain(6)
    report = verify(entries, checkpoint=verify(entries).head)
    assert (report.intact, report.checkpoint_matched, report.first_bad_seq) == (True, True, None)


def test_an_export_reads_back_equal_and_verifies_without_natsmedic() -> None:
    entries = chain(4)
    lines = list(export_lines(entries))
    assert list(read_lines(lines)) == [entry.line for entry in entries]
    assert all("\n" not in line for line in lines)
    previous = "0" * 64
    for line in lines:
        row = json.loads(line)
        claimed = row.pop("hash")
        text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == claimed
        assert row["previous"] == previous
        previous = claimed


def test_a_line_hashes_as_its_entry_does() -> None:
    for entry in chain(3):
        assert entry.line.computed_hash() == entry.computed_hash() == entry.hash
        assert entry.line.text() == canonical_json(entry.model_dump(mode="json"))


def test_a_key_that_stands_twice_in_an_export_is_refused() -> None:
    line = next(export_lines(chain(1)))
    with pytest.raises(BadInput, match="a key stands twice"):
        list(read_lines([line.replace('{"actor":', '{"actor":"mallory","actor":')]))


@pytest.mark.parametrize("value", [b"bytes", 7, None, "\ud800"])
@pytest.mark.parametrize("field", ["actor", "sentence", "data"])
def test_a_value_of_another_type_is_an_altered_row(field: str, value: object) -> None:
    verifier = ChainVerifier()
    assert not verifier.add(chain(1)[0].line._replace(**{field: value}))
    assert verifier.report().first_bad_seq == 1


NO_JSON = "it is not JSON"
NO_ENTRY = f"it has not the fields {', '.join(AuditLine._fields)}"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", NO_JSON),
        ("[" * 100_000, NO_JSON),
        ("[]", NO_ENTRY),
        ('{"seq": 1}', NO_ENTRY),
        ("null", NO_ENTRY),
        ('{"seq": 1, "seq": 1}', "a key stands twice in it"),
    ],
)
def test_a_line_that_is_no_entry_is_named_by_its_number_and_says_why(line: str, why: str) -> None:
    good = next(export_lines(chain(1)))
    with pytest.raises(BadInput) as refused:
        list(read_lines([good, "", line]))
    assert str(refused.value) == f"Line 3 of the export is not an audit entry: {why}."


def behind(entries: list[AuditEntry], seq: int) -> Checkpoint:
    return Checkpoint(seq=seq, hash=entries[seq - 1].hash)


def test_a_verification_from_some_row_on_says_which_rows_it_looked_at() -> None:
    entries = chain(6)
    verifier = ChainVerifier(behind(entries, 5), after=behind(entries, 3))
    assert all(verifier.add(entry.line) for entry in entries[3:])
    report = verifier.report()
    assert (report.intact, report.rows, report.head_hash, report.checkpoint_matched) == (
        True,
        6,
        entries[-1].hash,
        True,
    )
    assert report.reason.startswith("Rows 4 to 6 verify, and row 5 matches the checkpoint; ")


@pytest.mark.parametrize("altered", [4, 5, 6])
def test_an_altered_row_is_found_by_a_verification_that_begins_before_it(altered: int) -> None:
    entries = chain(6)
    verifier = ChainVerifier(after=behind(entries, 3))
    entries[altered - 1] = entries[altered - 1].model_copy(update={"sentence": "nothing happened"})
    for entry in entries[3:]:
        verifier.add(entry.line)
    assert verifier.report().first_bad_seq == altered


def test_rows_that_do_not_continue_the_checkpoint_are_found_at_the_first() -> None:
    entries = chain(6)
    kept = Checkpoint(seq=3, hash="a" * 64)
    verifier = ChainVerifier(kept, after=kept)
    assert not verifier.add(entries[3].line)
    assert verifier.report().first_bad_seq == 4


def test_a_chain_that_ends_before_a_checkpoint_after_its_beginning_was_cut() -> None:
    entries = chain(6)
    verifier = ChainVerifier(behind(entries, 6), after=behind(entries, 3))
    assert all(verifier.add(entry.line) for entry in entries[3:5])
    assert (verifier.report().first_bad_seq, verifier.report().checkpoint_matched) == (6, False)


def test_a_checkpoint_that_would_not_be_looked_at_is_no_checkpoint() -> None:
    entries = chain(6)
    with pytest.raises(ValueError, match="Row 2 of the checkpoint"):
        ChainVerifier(behind(entries, 2), after=behind(entries, 3))


def words(entries: list[AuditEntry], checkpoint: Checkpoint | None = None) -> str:
    return verify(entries, checkpoint=checkpoint).reason


def test_what_is_wrong_with_a_chain_is_said_with_its_row() -> None:
    entries = chain(6)
    edited = entries[2].model_copy(update={"actor": "mallory"})
    assert words([*entries[:2], edited, *entries[3:]]) == (
        "Row 3 was altered: its content does not have the hash it carries."
    )
    assert words([*entries[:2], sealed(edited), *entries[3:]]) == (
        "Row 4 does not continue the row before it: one of the two was altered or replaced."
    )
    assert words([*entries[:2], *entries[3:]]) == (
        "Row 3 was expected and row 4 was found: rows are missing, inserted or out of order."
    )
    assert words(entries[:4], behind(entries, 6)) == (
        "The chain ends at row 4 and the checkpoint was taken at row 6: the rows after 4 were cut off."
    )
    assert words(entries, Checkpoint(seq=4, hash="a" * 64)) == (
        "Row 4 is not the row of the checkpoint: the chain was rewritten at or before it."
    )


def test_behind_the_first_bad_row_nothing_is_judged_and_nothing_counts() -> None:
    entries = chain(6)
    verifier = ChainVerifier(behind(entries, 5))
    assert verifier.reached == 0
    assert [verifier.add(entry.line) for entry in (entries[0], entries[2], entries[1])] == [True, False, False]
    verifier.unreadable("It is torn.")
    report = verifier.report()
    assert (report.first_bad_seq, verifier.reached, report.checkpoint_matched) == (2, 1, False)
    assert report.reason.startswith("Row 2 was expected and row 3 was found")
    assert report.head == behind(entries, 1)


def test_a_row_that_cannot_be_read_is_the_bad_one() -> None:
    entries = chain(3)
    verifier = ChainVerifier()
    assert verifier.add(entries[0].line)
    verifier.unreadable("It is torn.")
    assert not verifier.add(entries[1].line)
    report = verifier.report()
    assert (report.intact, report.first_bad_seq, report.reason, report.rows) == (False, 2, "It is torn.", 1)


def test_a_verification_that_begins_at_its_checkpoint_has_it_matched_already() -> None:
    entries = chain(6)
    kept = behind(entries, 3)
    verifier = ChainVerifier(kept, after=kept.model_copy(update={"at": START}))
    assert verifier.reached == 3
    assert all(verifier.add(entry.line) for entry in entries[3:])
    report = verifier.report()
    assert (report.checkpoint_matched, report.head) == (True, behind(entries, 6))
    assert report.reason == (
        "Rows 4 to 6 verify, and row 3 matches the checkpoint; natsmedic audit verify looks at those before, too."
    )
    assert ChainVerifier(kept, after=Checkpoint(seq=3, hash="a" * 64)).report().checkpoint_matched is False


def test_a_verification_stops_at_the_first_bad_row() -> None:
    entries = chain(4)
    seen: list[int] = []

    def read() -> Iterator[AuditEntry]:
        for entry in (entries[0], entries[2], entries[3]):
            seen.append(entry.seq)
            yield entry

    assert verify(read()).first_bad_seq == 2
    assert seen == [1, 3]


def test_an_export_is_read_whatever_its_ends_of_lines_are() -> None:
    entries = chain(3)
    lines = [f"  {line}\r\n" for line in export_lines(entries)]
    assert list(read_lines([*lines[:1], " \n", *lines[1:]])) == [entry.line for entry in entries]


def test_a_line_with_a_number_that_json_has_not_is_no_entry() -> None:
    line = next(export_lines(chain(1))).replace("0.1", "NaN")
    with pytest.raises(BadInput, match="Line 1 of the export is not an audit entry: Out of range float values"):
        list(read_lines([line]))


def test_a_line_reads_as_the_entry_it_was_and_only_whole() -> None:
    (entry,) = chain(1)
    assert entry.line.entry() == entry
    row = entry.model_dump(mode="json")
    assert AuditLine.of(row) == entry.line
    del row["subject"]
    with pytest.raises(KeyError, match="subject"):
        AuditLine.of(row)
    with pytest.raises(ValueError, match="at"):
        entry.line._replace(at="never").entry()


def test_a_checkpoint_is_of_a_row_with_its_content_whenever_it_was_taken() -> None:
    kept = Checkpoint(seq=3, hash="a" * 64, at=START)
    assert kept.same_row(Checkpoint(seq=3, hash="a" * 64))
    assert not kept.same_row(Checkpoint(seq=4, hash="a" * 64, at=START))
    assert not kept.same_row(Checkpoint(seq=3, hash="b" * 64, at=START))
    assert Checkpoint(seq=1, hash="").at is None
