"""Which rollouts an optimizer step averages over, and which steps are skipped."""

import pytest
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer

from .test_failed_searches import FailsFor

NO_TERMS = {"beta": 0.0, "weight_decay": 0.1}


class Down:
    def search(self, queries, k):
        raise ConnectionError("server gone")


def lengths(completion_ids, **kwargs):
    """An outcome with many values."""
    return [(sum(ids) % 7) / 3 for ids in completion_ids]


class Rewards:
    """Outcomes that differ in the given generations only."""

    __name__ = "outcome"

    def __init__(self, *with_signal):
        self.with_signal, self.generation = with_signal, 0

    def __call__(self, completion_ids, **kwargs):
        self.generation += 1
        return lengths(completion_ids) if self.generation in self.with_signal else [0.0] * len(completion_ids)


def parameters(trainer):
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def gradients(trainer):
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


def logged(trainer, name="tspo/skipped_steps"):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class Weights:
    """Keeps the weights after each step."""

    def __init__(self, trainer):
        self.after = after = []

        class Keep(TrainerCallback):
            def on_step_end(self, *_, **__):
                after.append(parameters(trainer).clone())

        trainer.add_callback(Keep())
        self.before = parameters(trainer).clone()


# Steps without signal


def test_failed_searches_do_not_move_the_weights(make_trainer):
    kwargs = {"retriever": Down(), "reward_funcs": Rewards()}
    trainer = make_trainer(trainer_kwargs=kwargs, skip_steps_without_signal=True, **NO_TERMS)
    weights = Weights(trainer)
    trainer.train()
    assert any(one.end_reason == "search_failed" for one in trainer._trajectories)
    assert torch.equal(parameters(trainer), weights.before)
    assert logged(trainer) == [1, 2]


@pytest.mark.parametrize("off", [False, True])
def test_steps_without_signal_are_skipped_and_the_schedule_goes_on(make_trainer, off):
    options = {"max_steps": 4, "alpha": 0.0, "turn_level_groups": "never" if off else "all_wrong", **NO_TERMS}
    runs = []
    for skip in (True, False):
        rewards = {"reward_funcs": Rewards(2, 4)}
        trainer = make_trainer(trainer_kwargs=rewards, skip_steps_without_signal=skip, **options)
        if not off:  # no turn may contain evidence
            trainer._turn_advantages = lambda outcomes, num_turns, *_: (
                (outcomes - outcomes.mean()).unsqueeze(1) * (torch.arange(int(num_turns.max())) < num_turns[:, None])
            )
        weights = Weights(trainer)
        trainer.train()
        pairs = zip([weights.before, *weights.after[:-1]], weights.after, strict=True)
        runs.append((trainer, [torch.equal(*pair) for pair in pairs]))
    (skipping, still), (other, still_of_other) = runs
    assert still == [True, False, True, False]
    assert still_of_other == [False] * 4
    assert logged(skipping) == [1, 1, 2, 2]
    assert logged(other) == []
    for name in ("learning_rate", "step"):
        assert logged(skipping, name) == logged(other, name)


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd", "adafactor", "adamw_torch_fused"])
def test_no_optimizer_moves_in_a_skipped_step(make_trainer, optim):
    trainer = make_trainer(
        trainer_kwargs={"reward_funcs": Rewards(1)}, skip_steps_without_signal=True, optim=optim, max_steps=3,
        max_grad_norm=0.0, alpha=0.0, turn_level_groups="never", **NO_TERMS,
    )  # fmt: skip
    weights = Weights(trainer)
    trainer.train()
    assert not torch.equal(weights.before, weights.after[0])
    assert torch.equal(weights.after[0], weights.after[2])
    assert logged(trainer) == [0, 1, 2]


def test_rounding_errors_of_equal_rewards_are_no_signal(make_trainer):
    kwargs = {"reward_funcs": lambda completions, **_: [0.9] * len(completions)}
    options = {"num_generations": 3, "per_device_train_batch_size": 12, "alpha": 0.0, "turn_level_groups": "never"}
    trainer = make_trainer(trainer_kwargs=kwargs, skip_steps_without_signal=True, **options, **NO_TERMS)
    advantages = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: advantages.append(generate(inputs)) or advantages[-1]
    trainer.train()
    assert advantages[0]["advantages"].abs().max() > 1e-6
    assert logged(trainer) == [1, 2]


def test_signal_in_one_micro_batch_is_signal(make_trainer):
    trainer = make_trainer(
        trainer_kwargs={"reward_funcs": Rewards(1)}, skip_steps_without_signal=True, max_steps=2,
        per_device_train_batch_size=4, gradient_accumulation_steps=4, alpha=0.0, turn_level_groups="never", **NO_TERMS,
    )  # fmt: skip
    prepare = trainer._prepare_inputs
    seen = []

    def one_with_signal(batch):
        inputs = prepare(batch)
        seen.append(inputs)
        if len(seen) > 1:
            inputs["advantages"].zero_()
        return inputs

    trainer._prepare_inputs = one_with_signal
    trainer.train()
    assert logged(trainer) == [0, 1]


@pytest.mark.parametrize("term", [{"beta": 0.1}, {"entropy_coef": 0.01}])
def test_steps_with_another_term_are_not_skipped(make_trainer, term):
    options = {**NO_TERMS, **term, "alpha": 0.0, "turn_level_groups": "never"}
    trainer = make_trainer(trainer_kwargs={"reward_funcs": Rewards()}, skip_steps_without_signal=True, **options)
    trainer.train()
    assert logged(trainer) == [0, 0]


def test_skipped_run_resumes_exactly(make_run):
    options = {"skip_steps_without_signal": True, "alpha": 0.0, "turn_level_groups": "never", **NO_TERMS}
    whole, resumed = make_run("whole", **options), make_run("resumed", **options)
    for trainer in (whole, resumed):
        generate = trainer._generate_and_score_completions

        def without(inputs, trainer=trainer, generate=generate):
            output = generate(inputs)
            if trainer.state.global_step in (1, 2, 4):
                output["advantages"].zero_()
            return output

        trainer._generate_and_score_completions = without
    whole.train()
    assert logged(whole) == [0, 1, 2, 2, 3, 3]
    resumed.train(f"{whole.args.output_dir}/checkpoint-3")
    assert logged(resumed) == [0, 1, 2, 2, 3, 3]
    assert torch.equal(parameters(whole), parameters(resumed))


@pytest.mark.parametrize("optim", ["galore_adamw_layerwise", "lomo", "adalomo"])
def test_optimizers_that_step_by_themselves_are_refused(make_trainer, optim):
    with pytest.raises(ValueError, match="`skip_steps_without_signal=True` does not work with `optim="):
        make_trainer(skip_steps_without_signal=True, optim=optim, model="no/such/model")


# Failed rollouts in the loss


def gradients_of_step(trainer, batches):
    """Gradients of one optimizer step on given micro-batches."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = len(batches)
    for batch in batches:
        trainer._compute_loss(trainer.model, batch).backward()
    return gradients(trainer)


ALL_LOSSES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "sapo", "cispo", "vespo"]


@pytest.mark.parametrize("entropy_coef", [0.0, 0.01])
@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("loss_type", ALL_LOSSES)
def test_failed_rollouts_are_out_of_every_denominator(make_trainer, retriever, loss_type, beta, entropy_coef):
    trainer = make_trainer(
        trainer_kwargs={"retriever": FailsFor(retriever, "Rome"), "reward_funcs": lengths}, loss_type=loss_type,
        beta=beta, entropy_coef=entropy_coef, per_device_train_batch_size=2, gradient_accumulation_steps=8,
    )  # fmt: skip
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 8
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer._prepare_inputs(inputs)
    batches = [dict(batch) for batch in trainer._buffered_inputs]
    failed = [(batch["completion_mask"] * batch["tool_mask"]).sum(dim=1) == 0 for batch in batches]
    assert 0 < torch.cat(failed).sum() < 16
    found = gradients_of_step(trainer, batches)
    # The same micro-batches without the failed rollouts; each counts by its number of rollouts.
    kept_rollouts = sum(int((~rows).sum()) for rows in failed)
    nonempty = sum(bool((~rows).any()) for rows in failed)
    trainer.model.zero_grad()
    by_rollouts = loss_type in ("grpo", "sapo", "dr_grpo", "luspo")
    trainer.current_gradient_accumulation_steps = nonempty
    for batch, rows in zip(batches, failed, strict=True):
        keep = ~rows
        if not keep.any():
            continue
        alone = {
            key: value[keep] if isinstance(value, torch.Tensor) and value.dim() else value
            for key, value in batch.items()
            if key not in ("rollout_weight", "micro_batch_weight")
        }
        part = int(keep.sum()) * nonempty / kept_rollouts if by_rollouts else 1.0
        if loss_type in ("dapo", "cispo", "vespo"):
            part = 8 / nonempty  # these are divided by all tokens, not by micro-batches
        bonus = trainer.entropy_coef
        trainer.entropy_coef = bonus / part  # the entropy is a mean of micro-batches
        (trainer._compute_loss(trainer.model, alone) * part).backward()
        trainer.entropy_coef = bonus
    torch.testing.assert_close(found, gradients(trainer), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss_type", ALL_LOSSES)
def test_without_failed_rollouts_the_loss_is_trls(make_trainer, loss_type):
    trainer = make_trainer(loss_type=loss_type, beta=0.05)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    assert not {"is_left_out", "rollout_weight"} & batch.keys()
    expected = GRPOTrainer._compute_loss(trainer, trainer.model, batch)
    assert torch.equal(trainer._compute_loss(trainer.model, batch), expected)


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 2, 3, 4])
def test_each_step_is_weighed_by_its_own_rollouts(make_trainer, retriever, gradient_accumulation_steps):
    trainer = make_trainer(
        trainer_kwargs={"retriever": FailsFor(retriever, "Rome")}, per_device_train_batch_size=4,
        gradient_accumulation_steps=gradient_accumulation_steps, steps_per_generation=4,
    )  # fmt: skip
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = gradient_accumulation_steps
    trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    batches = trainer._buffered_inputs
    kept = [int(((batch["completion_mask"] * batch["tool_mask"]).sum(dim=1) > 0).sum()) for batch in batches]
    assert sum(kept) < 16
    size = 4 if gradient_accumulation_steps == 3 else gradient_accumulation_steps
    for start in range(0, 4, size):
        of_step = kept[start : start + size]
        expected = size * 4 / sum(of_step) if sum(of_step) > 0 else 1.0
        for batch in batches[start : start + size]:
            assert batch.get("rollout_weight", 1.0) == pytest.approx(expected)


def test_lengths_leave_failed_rollouts_out(make_trainer, retriever):
    trainer = make_trainer(trainer_kwargs={"retriever": FailsFor(retriever, "Rome")})
    trainer.model.train()
    trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    kept = [float(one.num_tokens) for one in trainer._trajectories if one.end_reason != "search_failed"]
    assert len(kept) < 16
    metrics = trainer._metrics["train"]
    for name in ("mean_length", "mean_terminated_length"):
        assert metrics[f"completions/{name}"] == [pytest.approx(sum(kept) / len(kept))]
    assert metrics["completions/min_length"] == [min(kept)]
    assert metrics["completions/max_length"] == [max(kept)]
