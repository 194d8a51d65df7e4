"""Four TSPO steps with a vLLM server in two processes. The rollouts of one process have more turns.

Arguments: folder of the model, folder of the index, URL of the server, a free port, folder for the results.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from trl.generation import vllm_generation
from vllm_on_cpu.sender import StoreVLLMClient

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.search import BM25Retriever

QUESTIONS = ["What is the capital of France?", "What is the capital of Italy?", "Where is Rome?", "Where is Berlin?"]


class AnswerAtOnce(TagProtocol):
    """Protocol that parses every turn as an answer."""

    def parse(self, text, *args, **kwargs):
        return super().parse("<answer> Rome </answer>", *args, **kwargs)


class NeverAnswer(TagProtocol):
    """Protocol that parses every turn as the same search."""

    def parse(self, text, *args, **kwargs):
        return super().parse("<search> Rome </search>", *args, **kwargs)


def main(model, index, url, group_port, folder):
    vllm_generation.VLLMClient = StoreVLLMClient
    args = TSPOConfig(
        output_dir=f"{folder}/out", max_steps=4, logging_steps=1, learning_rate=2e-3, per_device_train_batch_size=8,
        num_generations=4, max_turns=2, max_turn_length=24, max_feedback_length=60, max_completion_length=200,
        search_top_k=1, report_to="none", save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True,
        gradient_checkpointing=False, use_vllm=True, vllm_mode="server", vllm_server_base_url=url,
        vllm_group_port=int(group_port),
    )  # fmt: skip
    is_first = args.process_index == 0
    trainer = TSPOTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([{"question": one, "golden_answers": ["Rome"]} for one in QUESTIONS]),
        retriever=BM25Retriever(index),
        protocol=AnswerAtOnce() if is_first else NeverAnswer(),
    )
    own_differences, turns = [], []
    score = trainer._generate_and_score_completions

    def keep(inputs):
        output = score(inputs)
        generated = (output["completion_mask"] * output["tool_mask"]).bool()
        # TRL logs the mean over both processes. This is the part of this process.
        difference = (output["old_per_token_logps"] - output["sampling_per_token_logps"]).abs()[generated]
        own_differences.append(difference.mean().item())
        turns.append(max(len(trajectory.turns) for trajectory in trainer._trajectories))
        return output

    trainer._generate_and_score_completions = keep
    trainer.train()
    parameters = torch.cat([p.flatten() for p in trainer.model.parameters()]).tolist()
    result = {"turns": turns, "differences": own_differences, "parameters": parameters}
    Path(folder, f"rank{args.process_index}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
