"""`TSPOConfig`: its defaults, its flags, and how to turn TSPO off."""

import re

import pytest
from trl import GRPOConfig, TrlParser

from tspo_trl import TSPOConfig


def config(tmp_path, **changes):
    return TSPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **changes)


def test_defaults_are_the_documented_ones(tmp_path):
    args = config(tmp_path)
    assert (args.alpha, args.credit, args.success_threshold) == (0.5, "first_occurrence", 1.0)
    assert (args.match, args.match_boolean_answers, args.skip_gold_in_question) == ("token", False, False)
    assert (args.turn_level_groups, args.turn_baseline, args.absent_turns) == ("all_wrong", "same_turn", "skip")
    assert not args.latent_in_mixed_groups
    assert not args.additive_credit
    assert not args.skip_steps_without_signal
    assert (args.max_turns, args.max_turn_length, args.max_feedback_length, args.search_top_k) == (4, 500, 500, 3)
    assert args.max_completion_length == 4096


def test_only_the_completion_length_differs_from_trls_defaults(tmp_path):
    ours, theirs = vars(config(tmp_path)), vars(GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False))
    runtime = {"logging_dir", "distributed_state", "deepspeed_plugin", "accelerator_config"}
    different = {name for name in theirs.keys() - runtime if ours[name] != theirs[name]}
    assert different == {"max_completion_length"}


@pytest.mark.parametrize(
    ("alpha", "turn_level_groups", "enabled"),
    [(0.5, "all_wrong", True), (0.5, "never", True), (0.0, "all_wrong", True), (0.0, "never", False)],
)
def test_tspo_is_off_without_latent_reward_and_turn_level(tmp_path, alpha, turn_level_groups, enabled):
    assert config(tmp_path, alpha=alpha, turn_level_groups=turn_level_groups).tspo_enabled is enabled


@pytest.mark.parametrize(("alpha", "enabled"), [(0.5, True), (0.0, False)])
@pytest.mark.parametrize("turn_level_groups", ["all_wrong", "always", "never"])
def test_additive_credit_is_off_without_alpha(tmp_path, alpha, turn_level_groups, enabled):
    args = config(tmp_path, alpha=alpha, turn_level_groups=turn_level_groups, additive_credit=True)
    assert args.tspo_enabled is enabled


def test_docs_and_help_name_the_fields_in_the_same_order():
    documented = re.findall(r"^ +(\w+) \(`\w+`, \*optional\*", TSPOConfig.__doc__, re.MULTILINE)
    in_help = re.findall(r"^  --(\w+)", TrlParser((TSPOConfig,)).format_help(), re.MULTILINE)
    assert documented == [name for name in in_help if name in documented]
    assert {*documented, "max_completion_length"} == set(TSPOConfig.__annotations__)


def test_every_option_is_a_flag(tmp_path):
    flags = ["--alpha=0.25", "--credit=prefix", "--turn_baseline=all_turns", "--latent_in_mixed_groups=True"]
    flags += ["--additive_credit"]
    (args,) = TrlParser((TSPOConfig,)).parse_args_and_config(["--output_dir", str(tmp_path), "--use_cpu", *flags])
    assert (args.alpha, args.credit, args.turn_baseline) == (0.25, "prefix", "all_turns")
    assert args.latent_in_mixed_groups
    assert args.additive_credit
