"""Measurements of the tests with a real vLLM engine."""

import torch

# vLLM and transformers compute in float32 here. Their means differ by less than 1e-5, and by more than 1e-2 if vLLM
# has the weights of an earlier step.
MAX_LOGP_DIFFERENCE = 2e-3


def logp_differences(trainer):
    """TRL's mean difference between sampling and training log-probabilities, at each step of a run."""
    name = "sampling/sampling_logp_difference/mean"
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def assert_that_stale_weights_are_seen(make_trainer):
    """Four steps without synchronisation show a large difference."""
    trainer = make_trainer(max_steps=4, learning_rate=2e-3)
    trainer.vllm_generation.sync_weights()  # an engine may have another trainer's weights
    trainer.vllm_generation.sync_weights = lambda: None
    trainer.train()
    first, *later = logp_differences(trainer)
    assert first < MAX_LOGP_DIFFERENCE
    assert len(later) == 3
    assert min(later) > 5 * MAX_LOGP_DIFFERENCE


def run_rollouts(trainer, count=16):
    """`count` rollouts with their masks and log-probabilities, as the trainer's `rollout_func` gives them to TRL."""
    trainer.model.train()
    question = trainer.train_dataset[0]["question"]
    return trainer.rollout_func([trainer.protocol.prompt(question)] * count, trainer)


def own_logprobs(model, prompt_ids, completion_ids):
    """Log-probability of each completion token in the trained model."""
    ids = torch.tensor([prompt_ids + completion_ids])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt_ids) - 1 : -1]
    return logits.log_softmax(dim=-1).gather(1, ids[0, len(prompt_ids) :, None]).squeeze(1).tolist()
