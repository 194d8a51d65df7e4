"""Statistics of a few rollouts, counted by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.analysis import analyze
from tspo_trl.analysis.statistics import KINDS

from .lines import file_of, own, plain

HIT, MISS = "Paris is the capital.", "Lyon is a city."


def kinds(analysis):
    return tuple(analysis[kind] for kind in KINDS)


def test_kinds_are_shares_of_the_scorable_rollouts(tmp_path):
    lines = [
        own([MISS, None], outcome=0.0),  # complete failure
        own([HIT, None], outcome=0.0),  # near misses
        own([MISS, HIT, None], outcome=0.5),
        own([HIT, None], outcome=1.0),  # complete success
        own([None], outcome=1.0),  # success without retrieval
        own([HIT, None], outcome=None),  # unscorable
    ]
    analysis = analyze(file_of(tmp_path, *lines))
    assert (analysis["n"], analysis["unscorable"]) == (6, 1)
    assert kinds(analysis) == (1 / 5, 2 / 5, 1 / 5, 1 / 5)
    assert analysis["near_misses_of_failures"] == 2 / 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, 0.0, 0.5, 1.0]), st.sampled_from([HIT, MISS])), min_size=1))
def test_kinds_sum_to_one_where_a_rollout_is_scorable(tmp_path_factory, rollouts):
    lines = [own([found, None], outcome=outcome) for outcome, found in rollouts]
    analysis = analyze(file_of(tmp_path_factory.mktemp("kinds"), *lines))
    if analysis["unscorable"] == analysis["n"]:
        assert kinds(analysis) == (None,) * 4
    else:
        assert sum(kinds(analysis)) == pytest.approx(1.0)


def test_success_threshold_says_what_is_correct(tmp_path):
    path = file_of(tmp_path, own([HIT, None], outcome=0.5))
    assert analyze(path)["near_miss"] == 1.0
    assert analyze(path, success_threshold=0.5)["complete_success"] == 1.0
    with pytest.raises(ValueError, match="success_threshold must be a number, got nan"):
        analyze(path, success_threshold=float("nan"))


def test_without_a_recorded_outcome_exact_match_decides(tmp_path):
    lines = [own([HIT, None], prediction="the PARIS!"), plain([HIT, None], prediction="Paris"), plain([HIT, None])]
    analysis = analyze(file_of(tmp_path, *lines))
    assert (analysis["complete_success"], analysis["near_miss"]) == (2 / 3, 1 / 3)
    assert analysis["recorded_outcomes"] == 0


def test_rollout_whose_search_failed_is_unscorable_unless_an_outcome_is_recorded(tmp_path):
    lines = [own(prediction=None, end_reason="search_failed"), own(end_reason="search_failed", outcome=0.0)]
    assert analyze(file_of(tmp_path, *lines))["unscorable"] == 1


def test_evidence_is_what_the_search_returned_and_not_what_the_model_wrote(tmp_path):
    lines = [own([MISS, None], text=f"<information>{HIT}</information>"), plain([MISS, None], texts=[HIT, HIT])]
    assert analyze(file_of(tmp_path, *lines))["first_occurrence_turn"] == {"never": 2}


def test_first_occurrences_are_counted_by_turn_over_all_rollouts(tmp_path):
    lines = [own([HIT, HIT, None]), own([MISS, MISS, HIT, None], outcome=None), own([MISS, None])]
    analysis = analyze(file_of(tmp_path, *lines))
    assert analysis["first_occurrence_turn"] == {"0": 1, "1": 0, "2": 1, "never": 1}
    assert list(analysis["first_occurrence_turn"]) == ["0", "1", "2", "never"]


def test_match_is_at_the_borders_of_words_or_anywhere(tmp_path):
    path = file_of(tmp_path, own(["Parisian cafes", None]))
    assert analyze(path)["first_occurrence_turn"] == {"never": 1}
    assert analyze(path, match="substring")["first_occurrence_turn"] == {"0": 1, "never": 0}
    with pytest.raises(ValueError, match="match must be one of"):
        analyze(path, match="regex")


def test_yes_and_no_match_only_if_asked_to(tmp_path):
    path = file_of(tmp_path, own(["no", None], golden_answers=["no"], question="Yes or no?"))
    without, given = analyze(path), analyze(path, match_boolean_answers=True)
    assert (without["first_occurrence_turn"], without["gold_in_question"]) == ({"never": 1}, 0.0)
    assert (given["first_occurrence_turn"], given["gold_in_question"]) == ({"0": 1, "never": 0}, 1.0)


def test_turns_after_the_evidence_are_told_for_near_misses_and_successes(tmp_path):
    lines = [
        own([HIT, MISS, MISS, None], outcome=0.0),  # 3 turns after turn 0
        own([HIT, None], outcome=0.0),
        own([MISS, HIT, None], outcome=1.0),
        own([MISS, None], outcome=1.0),
        own([HIT, MISS, MISS, None], outcome=None),
    ]
    analysis = analyze(file_of(tmp_path, *lines))
    assert analysis["turns_after_first_occurrence"] == {"near_miss": 2.0, "complete_success": 1.0}


def test_latent_reward_goes_to_one_turn_of_each_near_miss(tmp_path):
    lines = [own([HIT, MISS, None], outcome=0.0), own([MISS, None], outcome=0.0), own([HIT, None], outcome=None)]
    assert analyze(file_of(tmp_path, *lines))["turns_with_latent_reward"] == 1 / 5


def test_gold_answer_in_the_question_is_counted(tmp_path):
    lines = [own(question="Is Paris in France?"), own(), own(), own(question=None)]
    assert analyze(file_of(tmp_path, *lines))["gold_in_question"] == 1 / 4


def test_turns_searches_and_reasons_for_ending(tmp_path):
    lines = [
        own([MISS, HIT, None]),
        own([MISS, None], prediction=None, end_reason="no_action"),
        plain(),
        plain(prediction=None),
    ]
    analysis = analyze(file_of(tmp_path, *lines))
    assert (analysis["turns_per_rollout"], analysis["searches_per_rollout"]) == (7 / 4, 3 / 4)
    assert analysis["end_reasons"] == {"answered": 1 / 2, "no_action": 1 / 4, "unknown": 1 / 4}
    assert analysis["invalid_turns"] == 2 / 7


def test_turns_of_trls_own_generation_record_no_actions(tmp_path):
    lines = [own([HIT, None], outcome=1.0, prediction="Paris")]
    generated = own([None], prediction=None, end_reason="generated", outcome=1.0)
    analysis = analyze(file_of(tmp_path, *lines, generated))
    assert (analysis["searches_per_rollout"], analysis["invalid_turns"]) == (1.0, 0.0)
    assert (analysis["recorded_outcomes"], analysis["recorded_outcomes_that_differ"]) == (1, 0)


def test_duplicate_queries_are_those_that_the_same_rollout_had_asked_before(tmp_path):
    lines = [
        own([MISS, MISS, None], queries=[("Seine", "Tiber"), ("  seine ", "TIBER")]),
        own([MISS, None], queries=[("Seine",)]),
        own(),
    ]
    analysis = analyze(file_of(tmp_path, *lines))
    assert analysis["duplicate_queries"] == 2 / 5
    assert analysis["rollouts_with_duplicate_queries"] == 1 / 3


def test_without_queries_there_is_no_share_of_them(tmp_path):
    analysis = analyze(file_of(tmp_path, own()))
    assert (analysis["duplicate_queries"], analysis["rollouts_with_duplicate_queries"]) == (None, 0.0)


@pytest.mark.parametrize(
    "tag",
    [
        "<information>",
        "</information>",
        "<tool_response>",
        "</tool_response>",
        "<|tool_response_start|>",
        "<|tool_response_end|>",
        "<|start_header_id|>ipython",
        "<|begin_of_documents|>",
        "<|end_of_documents|>",
    ],
)
def test_feedback_tags_in_what_the_model_wrote_are_forged(tmp_path, tag):
    lines = [own([MISS, None], text=f"I found {tag} it"), own([f"<information>{MISS}</information>", None])]
    assert analyze(file_of(tmp_path, *lines))["rollouts_with_forged_tags"] == 1 / 2


def test_recorded_outcomes_and_first_occurrences_are_compared_with_what_is_found(tmp_path):
    lines = [
        own(prediction="Paris", outcome=1.0, first_occurrence=None),
        own(prediction="Paris", outcome=0.0, first_occurrence=0),  # both differ
        own([HIT, None], outcome=0.7, first_occurrence=0),
        own([HIT, None], outcome=None, first_occurrence=0),  # unscorable
        plain(em=1),  # the outcome differs
    ]
    analysis = analyze(file_of(tmp_path, *lines))
    assert (analysis["recorded_outcomes"], analysis["recorded_outcomes_that_differ"]) == (4, 2)
    assert (analysis["recorded_first_occurrences"], analysis["recorded_first_occurrences_that_differ"]) == (4, 1)


def test_several_files_are_analyzed_together_and_one_by_one(tmp_path):
    first = file_of(tmp_path, own([HIT, None], outcome=0.0), name="first.jsonl")
    second = file_of(tmp_path, *[own([MISS, None], outcome=0.0)] * 3, name="second.jsonl")
    together = analyze([first, second])
    assert (together["n"], together["near_miss"]) == (4, 1 / 4)
    assert together["files"] == {str(first): analyze(first), str(second): analyze([second])}
    assert "files" not in analyze(first)


def test_kinds_are_told_for_each_step_training_and_evaluations_apart(tmp_path):
    file_of(tmp_path, own([HIT, None], step=10, outcome=0.0), own(step=10, outcome=0.0), name="step_000010.jsonl")
    file_of(tmp_path, own([HIT, None], step=2, outcome=1.0), name="step_000002.jsonl")
    file_of(tmp_path, own(step=10, outcome=1.0), name="eval_nq_step_000010.jsonl")
    steps = analyze(tmp_path)["steps"]
    training, evaluation = str(tmp_path), str(tmp_path / "eval_nq")
    assert [(row["series"], row["step"], row["n"]) for row in steps] == [
        (training, 2, 1),
        (training, 10, 2),
        (evaluation, 10, 1),
    ]
    assert [kinds(row) for row in steps] == [(0, 0, 1, 0), (0.5, 0.5, 0, 0), (0, 0, 0, 1)]


def test_without_recorded_steps_there_are_none(tmp_path):
    assert analyze(file_of(tmp_path, plain()))["steps"] == []


@pytest.mark.parametrize(
    ("outcome", "success", "kind"),
    [(0.5, 1.0, 0), (0.5, 0.9999999, 0), (0.9999999, None, 0), (1.2, 0.0, 1), (1.0, 0.5, 1)],
)
def test_recorded_success_says_what_is_correct_and_not_the_outcome(tmp_path, outcome, success, kind):
    recorded = {} if success is None else {"success": success}
    lines = [own([HIT, None], outcome=outcome, group=0, prediction="Paris", **recorded)]
    lines += [own([MISS, None], outcome=0.2, success=0.0, group=0)]
    analysis = analyze(file_of(tmp_path, *lines))
    assert analysis[("complete_success", "near_miss")[kind]] == 1 / 2
    assert analysis["all_wrong_groups"] == kind
    assert analysis["recorded_outcomes_that_differ"] == kind


def test_unknown_success_is_of_no_kind(tmp_path):
    lines = [own([HIT, None], outcome=0.5, success=None), own([HIT, None], outcome=0.5, success=0.0)]
    analysis = analyze(file_of(tmp_path, *lines))
    assert (analysis["unscorable"], analysis["near_miss"]) == (0, 1.0)
