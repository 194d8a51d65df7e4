"""Two steps in two processes, started by torchrun. The second process cannot search, and step 2 has no signal.

torchrun --nproc_per_node 2 tests/training_runs/steps_run.py MODEL INDEX OUTPUT_DIR
"""

import sys

import torch
from datasets import Dataset

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.search import BM25Retriever


class Down:
    def search(self, queries, k):
        raise ConnectionError("server gone")


class RecordingTrainer(TSPOTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.batches = []

    def _compute_loss(self, model, inputs):
        is_kept = (inputs["completion_mask"] * inputs["tool_mask"]).any(dim=1)
        self.batches.append((is_kept.tolist(), inputs.get("rollout_weight"), inputs.get("micro_batch_weight")))
        return super()._compute_loss(model, inputs)

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        if self.state.global_step == 1 or self.accelerator.process_index == 1:
            output["advantages"].zero_()
        return output


def length_reward(completions, **kwargs):
    return [len(text) / 1000 for text in completions]


def main(model, index, output_dir):
    """Train, and write `process_*.pt`."""
    args = TSPOConfig(
        output_dir=output_dir,
        max_steps=2,
        logging_steps=1,
        learning_rate=1e-3,
        loss_type="grpo",
        skip_steps_without_signal=True,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_generations=4,
        max_turns=2,
        max_turn_length=24,
        max_feedback_length=60,
        max_completion_length=200,
        search_top_k=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    retriever = Down() if args.process_index == 1 else BM25Retriever(index)
    rows = [{"question": "What is the capital of France?", "golden_answers": ["Paris"]}] * 4
    trainer = RecordingTrainer(
        model, length_reward, args=args, train_dataset=Dataset.from_list(rows), retriever=retriever
    )
    trainer.train()
    skipped = [entry["tspo/skipped_steps"] for entry in trainer.state.log_history if "tspo/skipped_steps" in entry]
    parameters = {name: value.detach() for name, value in trainer.model.named_parameters()}
    results = {"batches": trainer.batches, "skipped": skipped, "parameters": parameters}
    torch.save(results, f"{output_dir}/process_{args.process_index}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
