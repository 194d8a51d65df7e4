"""Training on the completions of a user's `rollout_func`, with masks of every shape."""

import json
import math

import pytest
from datasets import Dataset

from tspo_trl.rollout.generation import trajectory_of_generation
from tspo_trl.trainer.metrics import rollout_metrics
from tspo_trl.trajectory import trajectory_from_dict, trajectory_to_dict


def masks(length):
    ones, zeros = [1] * length, [0] * length
    return [ones, zeros, [], [0, *ones[1:]], [*zeros[1:], 1], [0, 1, 0, *ones[3:]], [1, *zeros[1:]], [1, 0, 1]]


@pytest.mark.parametrize("changes", [{}, {"alpha": 0.0, "turn_level_groups": "never"}])
def test_masks_of_any_shape_are_credited_recorded_and_trained_on(make_trainer, tokenizer, tmp_path, changes):
    ids = tokenizer("Paris is the capital")["input_ids"]

    def rollout_func(prompts, trainer):
        of_batch = [masks(len(ids))[i % 8] for i in range(len(prompts))]
        completions = [ids] * len(prompts)
        return {
            "prompt_ids": [[5, 6]] * len(prompts),
            "completion_ids": completions,
            "logprobs": None,
            "env_mask": of_batch,
        }

    rows = Dataset.from_list([{"prompt": "capital of France?", "golden_answers": ["capital"]}] * 4)
    kwargs = {"train_dataset": rows, "retriever": None, "rollout_func": rollout_func}
    kwargs["reward_funcs"] = lambda completions, **_: [float(i % 3 == 0) for i in range(len(completions))]
    trainer = make_trainer(
        trainer_kwargs=kwargs, per_device_train_batch_size=8, max_steps=1, log_completions=True, **changes
    )
    trainer.train()
    (file,) = (tmp_path / "out" / "trajectories").iterdir()
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [len(record["turns"]) for record in records] == [1, 1, 1, 1, 1, 2, 1, 2]
    # Only the seventh rollout was given the gold answer after a turn. Before the first turn it is nobody's evidence.
    assert [record["first_occurrence"] for record in records] == [None] * 6 + [0, None]
    assert math.isfinite(trainer.state.log_history[0]["tspo/advantage/early_stopping"])


def test_metrics_of_a_rollout_without_a_generated_token_are_those_of_one_empty_turn(tokenizer):
    one = trajectory_of_generation([5, 6], [0, 0], tokenizer)
    counts = {name: values.tolist() for name, values in rollout_metrics([one]).items() if values.any()}
    assert counts == {"rollout/turns": [1], "rollout/invalid_actions": [1]}
    assert (one.num_tokens, one.evidence, one.prediction) == (0, [None], None)
    assert trajectory_from_dict(trajectory_to_dict(one)) == one
