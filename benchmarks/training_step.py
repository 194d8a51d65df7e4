"""Time, tokens per second and peak memory of TSPO training steps, with random weights in the shape of a model.

    python benchmarks/training_step.py --shape qwen2.5-0.5b --dtype bf16 --json benchmarks/results/training_step.json

A random policy does not search or answer. So every turn runs to its budget and gets the protocol's hint as feedback,
and every step is the same work. The first step is a warm-up. The figures are medians of the other steps.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from machine import PeakMemory, describe_machine
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback

from tspo_trl import TSPOConfig, TSPOTrainer

_QWEN = {"vocab_size": 151936, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
# From the models' published `config.json`: width, width of the MLP, layers, heads, key and value heads.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 512, "sizes": (64, 128, 2, 2, 2)},
    "qwen2.5-0.5b": {**_QWEN, "sizes": (896, 4864, 24, 14, 2)},
    "qwen2.5-3b": {**_QWEN, "sizes": (2048, 11008, 36, 16, 2)},
}
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class NoRetriever:
    """A retriever that finds nothing."""

    def search(self, queries: list[str], k: int) -> list:
        return [[] for _ in queries]


class StepTimes(TrainerCallback):
    """Records how long each step takes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock after the device has finished."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self._start)


def make_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, filled up to the size of the vocabulary."""
    words = ["<|endoftext|>", "<|pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"token{i}" for i in range(vocab_size - len(words))]
    backend = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")


def save_model(shape: str, dtype: torch.dtype, folder: Path) -> int:
    """Make and save the model and its tokenizer. Return the number of parameters."""
    options = dict(SHAPES[shape])
    sizes = dict(zip(_SIZES, options.pop("sizes"), strict=True))
    tokenizer = make_tokenizer(options["vocab_size"])
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    config = Qwen2Config(**options, **sizes, **tokens, max_position_embeddings=32768, tie_word_embeddings=True)
    model = Qwen2ForCausalLM(config).to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.num_parameters()


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train the steps and return the figures."""
    num_parameters = save_model(args.shape, DTYPES[args.dtype], folder / "model")
    feedback_length = 256
    turns = args.max_turns + 1
    config = TSPOConfig(
        output_dir=str(folder / "out"),
        max_steps=args.steps,
        per_device_train_batch_size=args.micro_batch_size,
        gradient_accumulation_steps=args.rollouts // args.micro_batch_size,
        num_generations=4,
        max_turns=args.max_turns,
        max_turn_length=args.turn_length,
        max_feedback_length=feedback_length,
        max_completion_length=turns * (args.turn_length + feedback_length),
        generation_kwargs=None if args.use_vllm else {"min_new_tokens": args.turn_length},
        model_init_kwargs={"dtype": str(DTYPES[args.dtype]).removeprefix("torch.")},
        bf16=args.dtype == "bf16",
        use_cpu=not torch.cuda.is_available(),
        use_vllm=args.use_vllm,
        vllm_gpu_memory_utilization=args.vllm_gpu_memory_utilization,
        logging_steps=1,
        log_trajectories=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if args.use_vllm:
        config.generation_kwargs = {"ignore_eos": True}
    rows = [{"question": f"What is {i}?", "golden_answers": ["nothing"]} for i in range(args.rollouts)]
    times = StepTimes()
    trainer = TSPOTrainer(
        str(folder / "model"),
        args=config,
        train_dataset=Dataset.from_list(rows),
        retriever=NoRetriever(),
        callbacks=[times],
    )
    with PeakMemory() as memory:
        trainer.train()
    generated = [
        row["completions/mean_length"] for row in trainer.state.log_history if "completions/mean_length" in row
    ]
    seconds = statistics.median(times.seconds[1:])
    tokens = args.rollouts * statistics.median(generated[1:])
    return {
        "parameters": num_parameters,
        "seconds_per_step": seconds,
        "generated_tokens_per_step": tokens,
        "tokens_per_second": tokens / seconds,
        **memory.peak,
    }


def main() -> None:
    """Measure one shape and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny", help="shape of the model (default: %(default)s)")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="fp32", help="dtype of weights and training (default: %(default)s)"
    )
    parser.add_argument("--rollouts", type=int, default=32, help="rollouts per step (default: %(default)s)")
    parser.add_argument("--micro_batch_size", type=int, default=4, help="rollouts in one forward and backward pass")
    parser.add_argument("--max_turns", type=int, default=2, help="turns before the last one (default: %(default)s)")
    parser.add_argument("--turn_length", type=int, default=128, help="tokens per turn (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="training steps, including the first one")
    parser.add_argument("--use_vllm", action="store_true", help="generate with vLLM in this process")
    parser.add_argument("--vllm_gpu_memory_utilization", type=float, default=0.3)
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    if args.steps < 2 or args.rollouts % args.micro_batch_size:
        parser.error("--steps must be 2 or more, and --rollouts a multiple of --micro_batch_size.")
    figures: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), **describe_machine()}
    with tempfile.TemporaryDirectory() as folder:
        figures |= measure(args, Path(folder))
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
