"""A tiny policy that searches, trained for `benchmarks/rollout.py`.

A question names one to four entities of SearchWorld. The policy looks them up one after another through the chat
template's tool calls, then answers. Every name occurs in only one question, so no two rollouts search for the same.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tspo_trl.data.searchworld import SearchWorld
from tspo_trl.protocols.base import Call, ParsedAction
from tspo_trl.protocols.chat import INSTRUCTIONS, ChatToolProtocol
from tspo_trl.quickstart.policy import make_policy
from tspo_trl.search import Passage

ORDINALS = ("first", "second", "third", "fourth")
MAX_LENGTH = 2048
TOP_K = 3
_CALL = '<tool_call>\n{{"name": "search", "arguments": {{"query": "{}"}}}}\n</tool_call><|im_end|>'
_ANSWER = "<answer> found </answer><|im_end|>"
_SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_questions(world: SearchWorld, number: int, generator: random.Random) -> list[tuple[str, list[str]]]:
    """Questions that take one, two, three, four, one, ... searches, with their queries. No name occurs in two."""
    names = generator.sample(list(world.entities), sum(1 + i % len(ORDINALS) for i in range(number)))
    questions = []
    for i in range(number):
        queries = [f"{ordinal} {names.pop()}" for ordinal in ORDINALS[: 1 + i % len(ORDINALS)]]
        # In quotes, as in a call, so that the words are the same tokens in both.
        questions.append((f"Look up {', '.join(json.dumps(query) for query in queries)}", queries))
    return questions


def make_tokenizer(world: SearchWorld) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every word of SearchWorld is one token, with Qwen2.5's chat template."""
    template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text(encoding="utf-8")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=alphabet, special_tokens=_SPECIAL_TOKENS, show_progress=False
    )
    names = [f" {name} {row['contents']}" for name, row in zip(world.entities, world.corpus, strict=True)]
    ordinals = " ".join(f'"{ordinal}' for ordinal in ORDINALS)
    frame = f'{template} {INSTRUCTIONS} Look up {ordinals} {_CALL} {_ANSWER} <tool_response>\nDoc (Title: "'
    backend.train_from_iterator([*names, frame, frame], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )


class Examples:
    """
    Token ids to learn from, with labels. The label is -100 for tokens that the model does not write.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]):
            Tokenizer with the chat template.
        world ([`SearchWorld`]):
            Source of names and passages.
        generator (`random.Random`):
            Source of randomness.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, world: SearchWorld, generator: random.Random) -> None:
        self.tokenizer, self.world, self.generator = tokenizer, world, generator
        self.protocol = ChatToolProtocol(tokenizer)

    def copying(self) -> tuple[list[int], list[int]]:
        """Four names, then the ends of four calls in another order. Copying takes longest to learn."""
        question, queries = self._question(len(ORDINALS))
        ids = self._encode(f" {question}<|im_end|>\n")
        labels = [-100] * len(ids)
        for query in self.generator.sample(queries, len(queries)):
            call = self._encode(f'"query": "{query}"}}}}\n')
            ids, labels = ids + call, labels + [-100] * 5 + call[5:]
        return ids, labels

    def rollout(self) -> tuple[list[int], list[int]]:
        """A right rollout as the template renders it."""
        question, queries = self._question(self.generator.randint(1, len(ORDINALS)))
        ids = self.tokenizer.apply_chat_template(
            self.protocol.prompt(question), tools=self.protocol.tools, add_generation_prompt=True, return_dict=False
        )
        labels = [-100] * len(ids)
        for query in queries:
            turn, feedback = self._encode(_CALL.format(query)), self._encode(self._feedback(query))
            ids, labels = ids + turn + feedback, labels + turn + [-100] * len(feedback)
        answer = self._encode(_ANSWER)
        return ids + answer, labels + answer

    def _question(self, num_queries: int) -> tuple[str, list[str]]:
        return make_questions(self.world, num_queries, self.generator)[-1]

    def _feedback(self, query: str) -> str:
        """Feedback with random passages. The policy learns nothing from them."""
        rows = self.generator.sample(self.world.corpus, TOP_K)
        passages = [Passage.from_contents(row["id"], row["contents"]) for row in rows]
        parts = self.protocol.feedback(ParsedAction("search", query, (Call(query),)), {query: passages})
        return "".join(part.text for part in parts)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def train_policy(folder: Path, world: SearchWorld, *, steps: int, seed: int = 0) -> None:
    """Train a policy on copying (three fifths of the steps), then on rollouts, and save it with its tokenizer."""
    tokenizer = make_tokenizer(world)
    model = make_policy(tokenizer, max_length=MAX_LENGTH, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20, 4 * (1 - step / steps))
    )
    examples = Examples(tokenizer, world, random.Random(seed))
    model.train()
    for step in range(steps):
        draw, size = (examples.copying, 32) if step < 3 * steps // 5 else (examples.rollout, 8)
        loss = model(**_pad([draw() for _ in range(size)], tokenizer.pad_token_id)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if (step + 1) % 20 == 0:
            print(f"policy: step {step + 1} of {steps}, loss {loss.item():.4f}", flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _pad(examples: Sequence[tuple[list[int], list[int]]], pad_token_id: int) -> dict[str, torch.Tensor]:
    longest = max(len(ids) for ids, _ in examples)
    return {
        "input_ids": torch.tensor([ids + [pad_token_id] * (longest - len(ids)) for ids, _ in examples]),
        "labels": torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in examples]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in examples]),
    }
