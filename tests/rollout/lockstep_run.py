"""One of two processes that generate together, as with a vLLM server. `test_lockstep.py` runs it under `torchrun`.

TRL's `VLLMGeneration.generate` gathers the prompts and distributes the completions. Only the server is scripted. It
answers question `n` after `n` searches, so that rank 0, with questions 0 and 1, ends before rank 1, with 2 and 3.
"""

import json
import re
import sys
from pathlib import Path

from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.search import BM25Retriever

SETTINGS = {
    "per_device_train_batch_size": 2,
    "num_generations": 2,
    "max_completion_length": 2000,
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
}
DATASET = Dataset.from_list([{"prompt": "?", "golden_answers": ["Paris"]}] * 4)
TOOL_CALL = '<tool_call>\n{{"name": "search", "arguments": {{"query": "Rome {}"}}}}\n</tool_call>'
SEARCHES = {
    "ours": "<search> Rome {} </search>",
    "trl": '<tool_call>\n{{"name": "search", "arguments": {{"query": "Rome {}"}}}}\n</tool_call>',
}
ANSWERS = {"ours": "<answer> answer of question {} </answer>", "trl": "answer of question {}"}
FEEDBACK = {"ours": "<information>", "trl": "<tool_response>"}


class ScriptedServer:
    """Replacement for the client of a vLLM server."""

    def __init__(self, loop, tokenizer):
        self.loop, self.tokenizer = loop, tokenizer

    def get_server_info(self):
        return {"model_config": {"max_model_len": 4_000}}

    def generate(self, prompts, n, **kwargs):
        turns = [self.tokenizer(self.turn(self.tokenizer.decode(ids)))["input_ids"] for ids in prompts]
        turns = [[*ids, self.tokenizer.eos_token_id] for ids in turns]
        logprobs = [[[-1.0] for _ in ids] for ids in turns]
        return {"prompt_ids": prompts, "completion_ids": turns, "logprobs": logprobs, "logprob_token_ids": turns}

    def turn(self, text):
        question = int(re.search(r"question number (\d)", text)[1])
        searched = text.count(FEEDBACK[self.loop])
        form = SEARCHES if searched < question else ANSWERS
        return form[self.loop].format(question)


def serve(trainer, loop):
    """Let the trainer generate as with a server."""
    generation = object.__new__(VLLMGeneration)  # its own `__init__` would start vLLM
    settings = {"mode": "server", "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "logprobs": 0}
    settings |= {"repetition_penalty": 1.0, "max_completion_length": 500, "structured_outputs_regex": None}
    vars(generation).update(settings, accelerator=trainer.accelerator, generation_kwargs={}, tensor_parallel_size=1)
    if trainer.accelerator.is_main_process:
        generation.vllm_client = ScriptedServer(loop, trainer._tokenizer)
    trainer.use_vllm, trainer.vllm_mode, trainer.vllm_generation = True, "server", generation
    trainer._last_loaded_step = trainer.state.global_step  # skips the synchronisation of weights


def search(query: str) -> str:
    """
    Search.

    Args:
        query: What to search.
    """
    return f"found {query}"


def main(loop, model_path, index_path, output):
    options = {"model": model_path, "train_dataset": DATASET}
    if loop == "ours":
        args = TSPOConfig(output, max_turn_length=100, max_feedback_length=200, **SETTINGS)
        trainer = TSPOTrainer(**options, args=args, retriever=BM25Retriever(index_path))
        serve(trainer, loop)
        trainer._set_up_search(trainer.retriever)
    else:
        reward = lambda completions, **kwargs: [0.0] * len(completions)  # noqa: E731
        trainer = GRPOTrainer(**options, args=GRPOConfig(output, **SETTINGS), reward_funcs=reward, tools=[search])
        trainer._sync_tool_dicts, trainer._async_tool_dicts = [{"search": search}] * 2, [{}] * 2
        serve(trainer, loop)
    rank = trainer.accelerator.process_index
    questions = [f"question number {2 * rank + i}" for i in range(2)]
    prompts = questions if loop == "ours" else [[{"role": "user", "content": text}] for text in questions]
    trainer.model.train()
    Path(output, f"started_{rank}").touch()
    completion_ids = trainer._generate(prompts)[1]
    texts = [trainer._tokenizer.decode(ids) for ids in completion_ids]
    gather_object([rank])  # waits until the others are done
    answers = [re.findall(r"answer of question \d", text)[-1] for text in texts]
    Path(output, f"rank_{rank}.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
