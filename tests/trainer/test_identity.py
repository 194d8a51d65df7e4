"""With `alpha=0` and `turn_level_groups="never"` TSPO is GRPO, bit for bit."""

import pytest
import torch
from datasets import Dataset
from trl import GRPOTrainer

PROMPTS = Dataset.from_list([{"prompt": "What is the capital of France?"}] * 4)


def lengths_and_answers(completion_ids, **kwargs):
    """An outcome with many values, so that equality of advantages is not equality of zeros."""
    return [(sum(ids) % 7) / 3 for ids in completion_ids]


class Watch:
    """Keeps each batch and loss of a trainer."""

    def __init__(self, trainer):
        self.trainer, self.batches, self.losses = trainer, [], []
        score, loss = trainer._generate_and_score_completions, trainer.compute_loss

        def scored(inputs):
            self.batches.append(score(inputs))
            return self.batches[-1]

        def computed(*args, **kwargs):
            self.losses.append(loss(*args, **kwargs))
            return self.losses[-1]

        trainer._generate_and_score_completions, trainer.compute_loss = scored, computed

    def train(self):
        self.trainer.train()
        return self


def assert_same_training(ours, theirs):
    assert len(ours.batches) == len(theirs.batches) > 0
    for our_batch, their_batch in zip(ours.batches, theirs.batches, strict=True):
        assert our_batch.keys() == their_batch.keys()
        assert our_batch["advantages"].abs().sum() > 0
        for key, value in their_batch.items():
            assert torch.equal(our_batch[key], value), key
    assert [loss.item() for loss in ours.losses] == [loss.item() for loss in theirs.losses]
    for mine, yours in zip(ours.trainer.model.parameters(), theirs.trainer.model.parameters(), strict=True):
        assert torch.equal(mine, yours)


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_off_is_grpo_on_the_same_search_rollouts(make_trainer, scale_rewards, loss_type):
    options = {"max_steps": 3, "scale_rewards": scale_rewards, "loss_type": loss_type, "beta": 0.01}
    kwargs = {"reward_funcs": lengths_and_answers}
    ours = make_trainer(alpha=0.0, turn_level_groups="never", trainer_kwargs=kwargs, **options)
    recorded = []
    run = ours.rollout_func

    def record(prompts, trainer):
        recorded.append(run(prompts, trainer))
        torch.manual_seed(len(recorded))  # TRL shuffles the batch next, and sampling has used up random numbers
        return recorded[-1]

    def replay(prompts, trainer):
        step = len(theirs.batches)
        torch.manual_seed(step + 1)
        return {key: value for key, value in recorded[step].items() if key != "trajectory"}

    ours.rollout_func = record
    ours = Watch(ours).train()
    theirs = make_trainer(
        GRPOTrainer, trainer_kwargs={**kwargs, "train_dataset": PROMPTS, "retriever": None}, **options
    )
    theirs.rollout_func = replay
    theirs = Watch(theirs)
    assert_same_training(ours, theirs.train())


@pytest.mark.parametrize("rows", ["without golden answers", "with golden answers and TSPO off"])
def test_without_retriever_the_same_seed_gives_grpos_training(make_trainer, dataset, rows):
    options = {"max_steps": 3, "max_completion_length": 16}
    kwargs = {"reward_funcs": lengths_and_answers, "train_dataset": PROMPTS, "retriever": None}
    theirs = Watch(make_trainer(GRPOTrainer, trainer_kwargs=kwargs, **options)).train()
    if rows == "with golden answers and TSPO off":
        kwargs["train_dataset"] = PROMPTS.add_column("golden_answers", [["Paris"]] * len(PROMPTS))
        options |= {"alpha": 0.0, "turn_level_groups": "never"}
    ours = Watch(make_trainer(trainer_kwargs=kwargs, **options)).train()
    assert_same_training(ours, theirs)
