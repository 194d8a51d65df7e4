"""Outcome rewards, with and without trajectories."""

from tspo_trl.rewards import exact_match_reward, extract_answer, f1_reward, format_reward
from tspo_trl.trajectory import Trajectory, Turn


def trajectory(*actions, end_reason="answered"):
    turns = [Turn(text="", token_span=(i, i + 1), action=a, content=c) for i, (a, c) in enumerate(actions)]
    return Trajectory(turns=tuple(turns), end_reason=end_reason)


def test_answer_is_the_last_one_in_the_text():
    assert extract_answer("<answer> Rome </answer> no <answer>\nParis </answer>") == "Paris"
    assert extract_answer("Paris") is None


def test_answer_is_read_from_the_assistants_messages_only():
    messages = [
        {"role": "assistant", "content": "<answer> Rome </answer>"},
        {"role": "tool", "content": "<answer> Paris </answer>"},
    ]
    assert extract_answer(messages) == "Rome"


def test_answer_is_read_from_content_blocks():
    assert extract_answer([{"role": "assistant", "content": [{"type": "text", "text": "<answer>A</answer>"}]}]) == "A"


def test_exact_match_reward_normalises_and_takes_any_gold_answer():
    completions = ["<answer> the Paris! </answer>", "<answer> Rome </answer>", "Paris"]
    golden_answers = [["Lyon", "paris"], ["Paris"], ["Paris"]]
    assert exact_match_reward(completions=completions, golden_answers=golden_answers) == [1.0, 0.0, 0.0]


def test_trajectories_go_before_the_text_of_the_completion():
    reward = exact_match_reward(
        completions=["<information> <answer> Paris </answer> </information>"],
        golden_answers=[["Paris"]],
        trajectory=[trajectory(("search", "x"), (None, None), end_reason="no_action")],
    )
    assert reward == [0.0]


def test_f1_reward_is_token_overlap():
    # Prediction and gold share "new york": precision 2/3, recall 2/2.
    reward = f1_reward(completions=["<answer> New York City </answer>"], golden_answers=[["New York"]])
    assert reward == [0.8]


def test_format_reward_wants_an_action_in_every_turn_and_an_answer_at_the_end():
    rewards = format_reward(
        completions=["", "", ""],
        trajectory=[
            trajectory(("search", "x"), ("answer", "y")),
            trajectory((None, None), ("answer", "y")),
            trajectory(("search", "x"), ("search", "y"), end_reason="max_turns"),
        ],
    )
    assert rewards == [1.0, 0.0, 0.0]
    assert format_reward(completions=["<answer> x </answer>", "x"]) == [1.0, 0.0]
