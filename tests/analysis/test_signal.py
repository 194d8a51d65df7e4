"""The learning signal in groups of rollouts, computed by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tspo_trl.analysis import analyze

from .lines import file_of, own, plain

HIT, MISS = "Paris is the capital.", "Lyon is a city."

# Groups of four rollouts of two turns each.
WRONG = [own([MISS, None], outcome=0.0)] * 4
ONE_NEAR_MISS = [own([HIT, None], outcome=0.0), *WRONG[1:]]
ALL_NEAR_MISSES = [own([HIT, None], outcome=0.0)] * 4
MIXED = [own([HIT, None], outcome=1.0), *WRONG[1:]]
RIGHT = [own([HIT, None], outcome=1.0)] * 4


def signal(tmp_path, *groups):
    """Analysis of recorded groups."""
    lines = [{**line, "step": 1, "group": number} for number, group in enumerate(groups) for line in group]
    return analyze(file_of(tmp_path, *lines))


def test_grpo_learns_from_mixed_groups_and_tspo_from_near_misses_too(tmp_path):
    analysis = signal(tmp_path, WRONG, ONE_NEAR_MISS, ALL_NEAR_MISSES, MIXED, RIGHT)
    assert analysis["groups"] == 5
    assert analysis["groups_with_signal_grpo"] == 1 / 5
    assert analysis["groups_with_signal_tspo"] == 2 / 5
    assert analysis["all_wrong_groups"] == 3 / 5
    assert analysis["all_wrong_groups_with_signal_tspo"] == 1 / 3


def test_signal_is_in_all_turns_of_a_mixed_group_and_in_the_turn_of_the_evidence(tmp_path):
    # 16 turns. GRPO: the 8 of the mixed group. TSPO: these, and turn 0 of the 4 rollouts beside the near miss.
    analysis = signal(tmp_path, ONE_NEAR_MISS, MIXED)
    assert analysis["turns_with_signal_grpo"] == 8 / 16
    assert analysis["turns_with_signal_tspo"] == 12 / 16


def test_success_threshold_says_which_groups_are_all_wrong(tmp_path):
    lines = [{**own([MISS, None], outcome=x), "group": 0, "step": 1} for x in (0.5, 0.0)]
    path = file_of(tmp_path, *lines)
    assert analyze(path)["all_wrong_groups"] == 1.0
    assert analyze(path, success_threshold=0.5)["all_wrong_groups"] == 0.0


def test_latent_reward_makes_a_signal_among_rollouts_below_the_success_threshold(tmp_path):
    path = file_of(tmp_path, *[{**own([found, None], outcome=0.5), "group": 0, "step": 1} for found in (HIT, MISS)])
    assert analyze(path)["groups_with_signal_tspo"] == 1.0
    assert analyze(path, success_threshold=0.5)["groups_with_signal_tspo"] == 0.0


def test_grpo_compares_whole_rollouts_also_where_none_is_correct(tmp_path):
    # At turn level, turn 1 of the longer rollout would have nothing to compare with.
    analysis = signal(tmp_path, [own([MISS, None], outcome=0.5), own([None], outcome=0.0)])
    assert analysis["turns_with_signal_grpo"] == 3 / 3


def test_unscorable_rollouts_stay_in_their_group_without_a_signal(tmp_path):
    group = [own([MISS, None], outcome=1.0), own([MISS, None], outcome=0.0), own([MISS, None], outcome=None)]
    analysis = signal(tmp_path, group, [own(outcome=None)] * 2)
    assert (analysis["groups"], analysis["groups_with_signal_grpo"], analysis["all_wrong_groups"]) == (2, 1 / 2, 0.0)
    assert analysis["turns_with_signal_grpo"] == 4 / 8


def test_groups_may_be_of_different_sizes(tmp_path):
    analysis = signal(tmp_path, MIXED, ONE_NEAR_MISS[:2], WRONG[:3])
    assert analysis["groups"] == 3
    assert (analysis["groups_with_signal_grpo"], analysis["groups_with_signal_tspo"]) == (1 / 3, 2 / 3)
    assert analysis["turns_with_signal_tspo"] == (8 + 2) / 18


groups = st.lists(st.sampled_from([WRONG, ONE_NEAR_MISS, MIXED, RIGHT, MIXED[:2], ONE_NEAR_MISS[:3]]), min_size=1)


@settings(max_examples=50, deadline=None)
@given(groups)
def test_a_group_counts_the_same_beside_any_other(tmp_path_factory, groups):
    folder = tmp_path_factory.mktemp("groups")
    alone = [signal(folder, group) for group in groups]
    together = signal(folder, *groups)
    for key in ("groups_with_signal_grpo", "groups_with_signal_tspo", "all_wrong_groups"):
        assert together[key] == pytest.approx(sum(one[key] for one in alone) / len(groups))


def test_group_is_told_by_file_step_number_and_question(tmp_path):
    # An evaluation numbers its groups from 0 in every batch, so two questions can have the same number.
    lines = [
        own(question=question, step=step, group=group)
        for question, step, group in [("a", 1, 0), ("a", 2, 0), ("a", 1, 1), ("b", 1, 0)]
    ]
    paths = [file_of(tmp_path, *lines * 2, name=name) for name in ("one.jsonl", "two.jsonl")]
    assert analyze(paths[0])["groups"] == 4
    assert analyze(paths)["groups"] == 8


def test_without_recorded_groups_the_rollouts_of_a_question_in_a_file_are_one(tmp_path):
    lines = [plain([HIT, None], em=em, question=question) for question, em in (("a", 0), ("b", 0), ("a", 1))]
    one = file_of(tmp_path, *lines, name="one.jsonl")
    other = file_of(tmp_path, lines[1], name="other.jsonl")
    analysis = analyze([one, other])
    assert (analysis["groups"], analysis["groups_with_signal_grpo"]) == (1, 1.0)


@pytest.mark.parametrize(
    "lines",
    [
        [plain(question="a"), plain(question="b")],  # no question occurs twice
        [own(question=None), own(question=None)],  # neither group nor question is known
        [own(step=1, group=0), own(step=1, group=1)],  # groups of one have no baseline
    ],
)
def test_without_a_group_of_two_nothing_is_said_about_signal(tmp_path, lines):
    analysis = analyze(file_of(tmp_path, *lines))
    assert analysis["groups"] == 0
    shares = {key: value for key, value in analysis.items() if "with_signal" in key or key == "all_wrong_groups"}
    assert set(shares.values()) == {None}
    assert len(shares) == 6
