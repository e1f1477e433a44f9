"""Every audit entry that is demanded, the kinds of row that it comes to, and a test on the real path in which each is seen.

A claim is checked as its test runs: tests/integration/conftest.py and tests/e2e/conftest.py look at what the bot has written when it is over, and
tests/integration/test_audit_census.py shows that no kind is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent

CENSUS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "alerts": {
        "alert.firing": ("integration/test_intake.py", "test_a_firing_alert_opens_one_incident_and_one_diagnosis"),
        "alert.resolved": (
            "integration/test_intake.py",
            "test_resolved_of_an_alert_that_never_fired_here_opens_nothing_and_is_recorded",
        ),
        "delivery.unreadable": (
            "integration/test_intake_storm.py",
            "test_an_unreadable_delivery_is_recorded_and_the_others_go_on",
        ),
        "incident.reopened": (
            "integration/test_intake.py",
            "test_an_alert_that_fires_again_soon_after_it_was_over_goes_on_in_its_incident",
        ),
        "storm.began": (
            "integration/test_storms.py",
            "test_a_storm_is_over_once_nothing_has_joined_it_for_the_window_and_says_so",
        ),
        "storm.over": (
            "integration/test_storms.py",
            "test_a_storm_is_over_once_nothing_has_joined_it_for_the_window_and_says_so",
        ),
    },
    "diagnoses with the snapshot's digest": {
        "diagnosis.asked": (
            "integration/test_slack_commands.py",
            "test_the_shortcut_on_any_message_of_a_thread_looks_at_its_incident_again_and_once",
        ),
        "diagnosis.done": (
            "e2e/test_repair.py",
            "test_a_split_consumer_is_repaired_by_two_people_without_losing_a_message",
        ),
    },
    "proposals with the full preview": {
        "proposal.created": (
            "e2e/test_repair.py",
            "test_a_split_consumer_is_repaired_by_two_people_without_losing_a_message",
        ),
        "proposal.escalated": (
            "integration/test_intake.py",
            "test_every_further_group_is_called_once_in_its_turn_however_often_sweepers_start",
        ),
        "proposal.expired": (
            "integration/test_intake.py",
            "test_a_waiting_proposal_is_reminded_of_once_at_half_time_and_then_expires",
        ),
        "proposal.superseded": (
            "integration/test_execution.py",
            "test_the_world_is_read_again_right_before_the_first_write",
        ),
        "proposal.withdrawn": (
            "integration/test_terminal.py",
            "test_who_asked_and_any_approver_withdraws_and_nobody_else",
        ),
    },
    "every click, also refused ones, with the reason": {
        "click.refused": (
            "integration/test_approval_desk.py",
            "test_an_unknown_button_and_a_stranger_are_refused_and_audited",
        ),
        "command.refused": ("integration/test_slack_commands.py", "test_a_guest_is_refused_and_that_is_a_row"),
        "factor.locked": (
            "integration/test_second_factor.py",
            "test_a_lock_out_is_one_row_that_names_the_person_and_its_end",
        ),
        "incident.taken": ("integration/test_cases.py", "test_any_member_takes_an_incident_and_the_next_takes_it_over"),
        "silence.ended": ("integration/test_cases.py", "test_a_silence_can_be_ended_early_once_and_bears_both_names"),
        "silence.over": (
            "integration/test_cases.py",
            "test_a_silence_ends_by_itself_at_its_time_and_not_a_second_before",
        ),
        "silence.set": ("integration/test_cases.py", "test_a_silence_can_be_ended_early_once_and_bears_both_names"),
        "storm.opened": (
            "integration/test_storms.py",
            "test_anybody_opens_an_incident_of_a_storm_as_a_thread_and_it_is_diagnosed",
        ),
    },
    "approvals": {
        "approval.recorded": (
            "integration/test_called_groups.py",
            "test_before_the_call_the_group_is_refused_and_after_it_the_record_says_in_whose_place",
        ),
        "approval.void": (
            "integration/test_void_approvals.py",
            "test_the_sweep_voids_it_once_and_has_its_message_drawn_anew",
        ),
        "glass.broken": (
            "integration/test_slack_break_glass.py",
            "test_a_keeper_who_ticks_the_box_approves_alone_and_the_others_are_called_once",
        ),
    },
    "stages": {
        "execution.started": ("integration/test_execution.py", "test_two_stages_are_applied_and_verified_in_order"),
        "stage.intended": ("integration/test_execution.py", "test_two_stages_are_applied_and_verified_in_order"),
        "stage.sending": ("integration/test_execution.py", "test_two_stages_are_applied_and_verified_in_order"),
        "stage.waiting": (
            "integration/test_execution_waits.py",
            "test_half_way_people_are_told_once_what_is_waited_for",
        ),
    },
    "receipts": {
        "stage.applied": (
            "e2e/test_repair.py",
            "test_a_split_consumer_is_repaired_by_two_people_without_losing_a_message",
        ),
        "stage.unknown": (
            "integration/test_execution.py",
            "test_a_lost_reply_is_resolved_by_the_receipt_and_nothing_is_sent_again",
        ),
    },
    "outcomes": {
        "execution.done": (
            "e2e/test_repair.py",
            "test_a_split_consumer_is_repaired_by_two_people_without_losing_a_message",
        ),
        "execution.failed": (
            "integration/test_execution.py",
            "test_a_denied_write_is_not_applied_and_the_rest_never_starts",
        ),
        "execution.needs_human": (
            "integration/test_execution.py",
            "test_an_object_that_somebody_else_changed_is_a_humans_and_stays_locked",
        ),
        "execution.refused": (
            "integration/test_execution.py",
            "test_the_world_is_read_again_right_before_the_first_write",
        ),
        "lock.released": (
            "integration/test_terminal_unlock.py",
            "test_an_approver_gives_a_lock_back_and_the_row_names_person_and_os_user",
        ),
        "stage.failed": (
            "integration/test_execution.py",
            "test_a_stage_that_reality_does_not_confirm_is_failed_never_done",
        ),
        "stage.not_applied": (
            "integration/test_execution.py",
            "test_a_denied_write_is_not_applied_and_the_rest_never_starts",
        ),
    },
    "verification": {
        "execution.verifying": ("integration/test_execution.py", "test_two_stages_are_applied_and_verified_in_order"),
        "stage.verified": (
            "e2e/test_repair.py",
            "test_a_split_consumer_is_repaired_by_two_people_without_losing_a_message",
        ),
    },
    "rollbacks": {
        "execution.rolled_back": (
            "integration/test_execution_way_back.py",
            "test_a_way_back_is_on_record_before_it_is_sent",
        ),
        "stage.rolled_back": (
            "integration/test_execution_way_back.py",
            "test_a_way_back_is_on_record_before_it_is_sent",
        ),
        "stage.undoing": ("integration/test_execution_way_back.py", "test_a_way_back_is_on_record_before_it_is_sent"),
    },
    "freezes": {
        "freeze.lift": ("integration/test_freeze.py", "test_two_different_people_lift_a_freeze"),
        "freeze.lifted": ("integration/test_freeze.py", "test_two_different_people_lift_a_freeze"),
        "freeze.set": ("integration/test_freeze.py", "test_two_different_people_lift_a_freeze"),
    },
    "policy and configuration changes": {
        "settings.changed": (
            "integration/test_checkpoints.py",
            "test_starts_stops_crashes_and_changed_settings_are_on_record",
        ),
    },
    "restarts": {
        "bot.started": (
            "integration/test_checkpoints.py",
            "test_starts_stops_crashes_and_changed_settings_are_on_record",
        ),
        "replica.lost": (
            "integration/test_replicas.py",
            "test_who_is_struck_off_writes_nothing_any_more_and_it_is_on_record",
        ),
        "bot.stopped": (
            "integration/test_checkpoints.py",
            "test_starts_stops_crashes_and_changed_settings_are_on_record",
        ),
    },
    "the log itself": {
        "database.downgraded": (
            "integration/test_migrations.py",
            "test_after_the_way_there_and_back_references_hold_and_audit_rows_can_not_change",
        ),
        "database.pruned": (
            "integration/test_retention.py",
            "test_of_a_world_that_has_one_of_each_the_same_is_kept_on_both_databases",
        ),
        "database.upgraded": (
            "integration/test_cli_db.py",
            "test_looking_changes_nothing_and_upgrading_says_who_did_it",
        ),
        "audit.acknowledged": (
            "integration/test_checkpoints.py",
            "test_a_restored_database_changes_nothing_until_a_person_acknowledges_the_gap",
        ),
        "audit.gap": (
            "integration/test_checkpoints.py",
            "test_a_restored_database_changes_nothing_until_a_person_acknowledges_the_gap",
        ),
        "checkpoint.failed": (
            "integration/test_checkpoints.py",
            "test_a_place_that_fails_is_told_once_tried_again_and_holds_nothing_up",
        ),
        "checkpoint.recovered": (
            "integration/test_checkpoints.py",
            "test_a_place_that_fails_is_told_once_tried_again_and_holds_nothing_up",
        ),
    },
}
"""By what the log must hold: the kinds of row, each with the file and the name of its test."""


def claimed_by(path: Path, test: str) -> set[str]:
    """Return the kinds that this test is named for."""
    file = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return {kind for kinds in CENSUS.values() for kind, named in kinds.items() if named == (file, test)}
