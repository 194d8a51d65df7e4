"""The internals of TRL that we use. If TRL changes one, a test with its name fails."""

import ast
import importlib
import inspect
from pathlib import Path

import evaluate
import pandas
import pytest
import torch
from datasets import Dataset
from evaluate.loading import import_main_class
from torch.utils.tensorboard import SummaryWriter
from transformers import GenerationConfig
from transformers.integrations import TensorBoardCallback
from trl import GRPOTrainer
from trl.chat_template_utils import (
    add_response_schema,
    get_training_chat_template,
    is_chat_template_prefix_preserving,
    qwen3_template,
    supports_tool_calling,
)
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import print_prompt_completions_sample

from tspo_trl import TSPOTrainer, rollout
from tspo_trl import trainer as trainer_package

ROLLOUT, TRAINER = (Path(package.__file__).parent for package in (rollout, trainer_package))
KNOWS_PRIVATE_NAMES = [*sorted(TRAINER.glob("*.py")), ROLLOUT / "generation.py", ROLLOUT / "vllm.py"]
WITHOUT_RETRIEVER = {
    "retriever": None,
    "train_dataset": Dataset.from_list([{"prompt": "capital?"}] * 4),
    "reward_funcs": lambda completions, **kwargs: [0.0] * len(completions),
}


def parameters(function):
    return list(inspect.signature(function).parameters)


METHODS = {
    "_generate": ["prompts"],
    "_calculate_rewards": ["inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["inputs"],
    "_prepare_inputs": ["generation_batch"],
    "_compute_loss": ["model", "inputs"],
    "_tokenize_prompts": ["prompts"],
    "log": ["logs", "start_time"],
    "_get_train_sampler": ["dataset"],
    "_get_output_dir": ["trial"],
    "_save_checkpoint": ["model", "trial"],
    "_save_rng_state": ["output_dir"],
    "_load_rng_state": ["checkpoint"],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "evaluate": ["eval_dataset", "ignore_keys", "metric_key_prefix"],
    "evaluation_loop": ["dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix"],
    "num_examples": ["dataloader"],
    "_init_training_state": [
        "max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"
    ],
}  # fmt: skip
# Attributes of a trainer that we read or set.
ATTRIBUTES = ["_buffered_inputs", "_dist", "_logs", "_metrics", "_step", "_tokenizer", "_tag_names", "_name", "_paper"]
ATTRIBUTES += ["chat_template", "eos_token_ids", "generation_config", "log_completions", "mask_truncated_completions"]
ATTRIBUTES += ["model_wrapped", "num_completions_to_print", "num_generations", "num_generations_eval"]
ATTRIBUTES += ["num_iterations", "reward_func_names", "reward_weights", "rollout_func", "tools", "use_vllm", "beta"]
ATTRIBUTES += ["_entropy_bonus_enabled", "aux_loss_enabled", "use_adaptive_entropy"]


@pytest.mark.parametrize("name", METHODS)
def test_hook_has_the_signature_that_we_override_or_call(name):
    assert parameters(getattr(GRPOTrainer, name)) == ["self", *METHODS[name]]


def test_generate_single_turn_takes_token_ids_and_a_number_of_generations():
    expected = ["self", "prompt_ids", "images", "multimodal_fields", "num_generations"]
    assert parameters(GRPOTrainer._generate_single_turn)[:5] == expected


def test_trainer_has_the_attributes_that_we_read_or_set(make_trainer, searching_model_path):
    trainer = make_trainer(GRPOTrainer, trainer_kwargs=WITHOUT_RETRIEVER)
    assert [name for name in ATTRIBUTES if not hasattr(trainer, name)] == []
    assert (trainer._step, trainer._buffered_inputs) == (0, None)
    assert [trainer._metrics[mode]["any"] for mode in ("train", "eval")] == [[], []]
    assert trainer._get_output_dir(trial=None) == trainer.args.output_dir
    assert trainer.model.config._name_or_path == searching_model_path


def test_every_private_name_that_we_use_is_tested_here(make_trainer):
    trainer = make_trainer(GRPOTrainer, trainer_kwargs=WITHOUT_RETRIEVER)
    nodes = [node for path in KNOWS_PRIVATE_NAMES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    private = {name for name in used if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if hasattr(trainer, name)} <= {*METHODS, *ATTRIBUTES, "_generate_single_turn"}


@pytest.mark.parametrize(
    "name",
    [
        "transformers.trainer.TRAINER_STATE_NAME",
        "transformers.trainer_callback.ExportableState",
        "transformers.trainer_utils.EvalLoopOutput",
        "transformers.trainer_utils.PREFIX_CHECKPOINT_DIR",
        "transformers.trainer_utils.TrainOutput",
        "transformers.trainer_utils.has_length",
        "trl.generation.vllm_generation.VLLMGeneration",
        "trl.trainer.utils.print_prompt_completions_sample",
    ],
)
def test_name_that_we_import_from_a_submodule_is_there(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_init_takes_by_position_what_we_hand_on():
    expected = ["self", "model", "reward_funcs", "args", "train_dataset", "eval_dataset"]
    assert parameters(GRPOTrainer.__init__)[:6] == expected


def test_generate_returns_eight_values_and_calls_our_rollout_func(make_trainer):
    trainer = make_trainer()
    trainer.model.train()
    output = GRPOTrainer._generate(trainer, ["a", "b"])
    assert len(output) == 8
    prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, _, _ = output
    assert len(prompt_ids) == len(completion_ids) == len(tool_mask) == len(completions) == 2
    assert logprobs is None
    assert extra_fields["trajectory"] == trainer._trajectories


def test_generate_logs_the_length_metrics_that_we_correct(make_trainer):
    trainer = make_trainer()
    trainer.model.train()
    GRPOTrainer._generate(trainer, ["a"])
    names = ["clipped_ratio", "mean_terminated_length", "min_terminated_length", "max_terminated_length"]
    assert all(len(trainer._metrics["train"][f"completions/{name}"]) == 1 for name in names)


def test_transformers_generation_reads_its_budget_from_generation_config(make_trainer):
    trainer = make_trainer()
    assert isinstance(trainer.generation_config, GenerationConfig)
    trainer.generation_config.max_new_tokens = 3
    ids, logprobs = GRPOTrainer._generate_single_turn(trainer, [[5, 6]], None, {}, 1)
    assert len(ids[0]) <= 3
    assert logprobs is None


def test_vllm_generation_reads_its_budget_and_stop_strings_from_attributes():
    source = inspect.getsource(VLLMGeneration)
    assert "max_completion_length = self.max_completion_length" in source
    assert "generation_kwargs.update(self.generation_kwargs)" in source


def test_vllm_generation_reads_its_structured_outputs_from_an_attribute():
    source = inspect.getsource(VLLMGeneration.generate)
    assert '"structured_outputs_regex": self.structured_outputs_regex' in source


def test_evaluation_asks_each_question_as_often_as_the_trainer_says_when_it_begins(make_trainer, dataset):
    trainer = make_trainer(trainer_kwargs={"eval_dataset": dataset})
    trainer.num_generations_eval = 1
    assert len(trainer._get_eval_sampler(dataset)) == 4
    trainer.num_generations_eval = 3
    assert len(trainer._get_eval_sampler(dataset)) == 12
    assert "else self.num_generations_eval" in inspect.getsource(GRPOTrainer._generate_and_score_completions)


def test_number_of_examples_is_that_of_the_dataset_not_of_its_repeats(make_trainer, dataset):
    trainer = make_trainer(trainer_kwargs={"eval_dataset": dataset})
    assert trainer.num_examples(trainer.get_eval_dataloader()) == 4


def test_greedy_decoding_wins_over_the_generation_config_of_a_model(make_trainer):
    trainer = make_trainer(trainer_kwargs=WITHOUT_RETRIEVER, max_completion_length=24)
    trainer.model.generation_config.do_sample = True
    trainer.model.generation_config.temperature = 100.0
    trainer.generation_config.do_sample = False
    ids, _ = GRPOTrainer._generate_single_turn(trainer, [[5, 6]] * 4, None, {}, 1)
    assert ids == [ids[0]] * 4


def test_generation_kwargs_win_over_the_temperature_of_vllm():
    source = inspect.getsource(VLLMGeneration.generate)
    assert source.index('"temperature": temperature') < source.index(
        "generation_kwargs.update(self.generation_kwargs)"
    )
    assert '"generation_kwargs": self.generation_kwargs' in source
    assert "sampling_params.update(generation_kwargs or {})" in inspect.getsource(VLLMClient.generate)


def test_evaluate_checks_texts_where_our_metrics_let_none_pass():
    assert parameters(evaluate.EvaluationModule._enforce_nested_string_type) == ["self", "schema", "obj"]
    for function in (evaluate.EvaluationModule.add, evaluate.EvaluationModule.add_batch):
        assert "self._enforce_nested_string_type(" in inspect.getsource(function)


def test_evaluate_takes_the_first_class_of_a_metrics_file_that_is_not_abstract():
    metric = import_main_class("tspo_trl.evaluation.metrics.exact_match")
    assert metric.__name__ == "ExactMatch"


def test_loss_takes_advantages_of_two_dimensions(make_trainer):
    trainer = make_trainer()
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    batch = trainer._generate_and_score_completions(inputs)
    assert batch["advantages"].shape == batch["completion_ids"].shape
    trainer.current_gradient_accumulation_steps = 1
    generated = batch["completion_mask"] * batch["tool_mask"]
    # On the policy that generated, the ratio is 1, so the loss is minus the mean advantage of the generated tokens.
    expected = -(batch["advantages"] * generated).sum() / batch["num_items_in_batch"]
    assert torch.isclose(trainer._compute_loss(trainer.model, batch), expected, atol=1e-6)


def test_rewards_are_gathered_and_one_column_per_function(make_trainer):
    trainer = make_trainer()
    inputs = [{"prompt": "a", "golden_answers": ["Paris"]}] * 2
    completions = ["<answer> Paris </answer>", "<answer> Rome </answer>"]
    rewards = GRPOTrainer._calculate_rewards(trainer, inputs, ["a", "a"], completions, [[1], [2]])
    assert rewards.tolist() == [[1.0], [0.0]]


def test_logged_advantages_are_a_bounded_queue_of_floats(make_trainer):
    trainer = make_trainer()
    assert trainer._logs["advantages"].maxlen == trainer.args.generation_batch_size


@pytest.mark.parametrize("name", ["prompt", "completion", "advantages"])
def test_table_of_completions_is_of_the_newest_rollouts(make_trainer, name):
    trainer = make_trainer()
    assert trainer._logs[name].maxlen == trainer.args.generation_batch_size


def test_log_reads_the_extra_columns_of_completions_where_we_add_ours(make_trainer):
    trainer = make_trainer()
    assert not trainer._logs["extra"]
    source = inspect.getsource(GRPOTrainer.log)
    assert '**self._logs["extra"]' in source
    assert 'extra=dict(self._logs["extra"])' in source
    assert "if self.accelerator.is_main_process and self.log_completions:" in source


def test_extra_columns_of_reward_functions_are_flushed_before_we_credit():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert 'self._logs["extra"][column].extend(gather_object(values))' in source
    assert 'self._logs["prompt"].extend(gather_object(prompts))' in source


def test_no_completion_is_printed_where_their_number_is_none_at_all(capsys):
    print_prompt_completions_sample(["a"], ["b"], {"reward": [1.0]}, [0.0], 1, 0, extra={"kind": ["near_miss"]})
    assert capsys.readouterr().out == ""
    assert "self.num_completions_to_print," in inspect.getsource(GRPOTrainer.log)


def test_completions_are_printed_with_extra_columns(capsys):
    extra = {"kind": pandas.Series(["near_miss"])}
    print_prompt_completions_sample(["a"], ["b"], {"reward": [1.0]}, [0.0], 1, None, extra=extra)
    assert "near_miss" in capsys.readouterr().out


def test_trackers_get_tables_as_we_hand_them_ours():
    source = inspect.getsource(GRPOTrainer.log)
    assert 'logging_backend.log({"completions": logging_backend.Table(dataframe=df)})' in source
    assert '"wandb" in self.args.report_to and wandb.run is not None' in source


def test_writer_of_tensorboard_is_where_the_callback_keeps_it(tmp_path):
    callback = TensorBoardCallback(writer := SummaryWriter(tmp_path))
    assert callback.tb_writer is writer
    assert parameters(writer.add_text)[:3] == ["tag", "text_string", "global_step"]


def test_trainer_whose_init_never_ran_generates_as_trls(make_trainer):
    """TRL's own tests create such trainers."""
    ours, theirs = object.__new__(TSPOTrainer), make_trainer(trainer_kwargs=WITHOUT_RETRIEVER)
    vars(ours).update(
        {name: value for name, value in vars(theirs).items() if name not in ("retriever", "_is_credited")}
    )
    ours.model.train()
    assert len(ours._generate(["a", "b"])) == 8
    assert ours.retriever is None


def test_prompts_are_tokenized_with_the_trainers_tools_and_chat_template():
    source = inspect.getsource(GRPOTrainer._tokenize_prompts)
    assert "tools=self.tools or None" in source
    assert "chat_template=self.chat_template" in source


def test_sharding_of_the_weights_is_known_to_the_trainer(make_trainer):
    distributed = make_trainer()._dist
    assert (distributed.is_zero3, distributed.is_fsdp) == (False, False)


def test_vllm_generation_has_what_says_whether_processes_share_an_engine():
    assert {"mode", "tensor_parallel_size"} <= set(parameters(VLLMGeneration.__init__))
    source = inspect.getsource(VLLMGeneration)
    assert "group=self.tp_group" in source
    assert "self.llm.generate(vllm_prompts, sampling_params=sampling_params" in source
    assert "self.vllm_client.generate(" in source


def test_vllm_generation_hands_each_process_its_share_by_position():
    """The reason why all processes need equally many prompts."""
    assert "accelerator.process_index * len(prompts)" in inspect.getsource(VLLMGeneration.generate)


def test_context_of_a_colocated_engine_is_read_where_trl_reads_it():
    assert "self.vllm_generation.llm.llm_engine.model_config.max_model_len" in inspect.getsource(
        GRPOTrainer._tool_call_loop
    )


@pytest.mark.parametrize(
    "function",
    [add_response_schema, get_training_chat_template, is_chat_template_prefix_preserving, supports_tool_calling],
)
def test_function_of_chat_templates_takes_a_tokenizer_by_position(function):
    assert parameters(function)[0] == "processing_class"


def test_responses_are_parsed_with_a_template_and_what_stands_before_them(chat_tokenizer):
    assert {"response", "schema", "prefix"} <= set(parameters(chat_tokenizer.parse_response))


def test_response_template_may_be_compiled_beforehand():
    from transformers.utils.chat_parsing.response_templates import load_response_template

    compiled = load_response_template(qwen3_template)
    assert load_response_template(compiled) is compiled


def test_state_of_an_adaptive_entropy_is_written_with_a_checkpoint():
    assert "entropy_ctrl_state.json" in inspect.getsource(GRPOTrainer._save_checkpoint)


def test_generation_window_is_counted_and_kept_where_checkpoints_save_it():
    source = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "self._step % generate_every == 0 or self._buffered_inputs is None" in source
    assert "self._step += 1" in inspect.getsource(GRPOTrainer.training_step)


def test_context_of_a_server_is_known_to_the_client_that_only_the_main_process_has():
    assert hasattr(VLLMClient, "get_server_info")
    source = inspect.getsource(VLLMGeneration)
    assert "if accelerator.is_main_process:\n                if self.server_base_url is not None" in source
