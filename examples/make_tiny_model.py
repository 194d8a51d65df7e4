"""Make a tiny Qwen2 model that can only search and answer, to test a pipeline on a laptop.

    python examples/make_tiny_model.py --corpus corpus.jsonl --questions train.jsonl --output models/tiny

The model has fewer than a million parameters. The script trains a tokenizer on the corpus and teaches the model the
format of Search-R1's protocol: it searches for words of a question and answers with a title. Its queries and answers
make no sense. Use it to check that an index, a dataset and a configuration work before you train a real model.
"""

import argparse
import random
from itertools import chain, islice
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

from tspo_trl import TagProtocol
from tspo_trl.data import load_questions
from tspo_trl.search import Passage
from tspo_trl.search.indexing.bm25 import read_corpus


def make_tokenizer(passages: list[Passage], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE like Qwen's, trained on the passages and the protocol's texts."""
    protocol = TagProtocol()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        show_progress=False,
    )
    protocol_texts = [protocol.prompt("?"), protocol.invalid_action().text] * 20
    backend.train_from_iterator(chain(protocol_texts, (passage.contents for passage in passages)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A Qwen2 model with two layers of width 64."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def make_demonstrations(questions: list[str], passages: list[Passage], number: int, seed: int) -> Dataset:
    """Questions, each with a search for some of its words, a passage, and a title as the answer."""
    protocol, generator = TagProtocol(), random.Random(seed)
    rows = []
    for _ in range(number):
        question, passage = generator.choice(questions), generator.choice(passages)
        words = question.strip("?").split()
        start = generator.randrange(max(1, len(words) - 3))
        search = f"<search> {' '.join(words[start : start + 4])} </search>"
        shown = passage.text[:200].rstrip()
        feedback = protocol.render([Passage(passage.id, passage.title, shown)]).text
        answer = f"<answer> {passage.title.strip(chr(34))} </answer>"
        text = search + feedback + answer if generator.random() < 0.8 else answer
        rows.append({"prompt": protocol.prompt(question), "completion": text})
    return Dataset.from_list(rows)


def main() -> None:
    """Make a tokenizer and a model, teach the model the protocol, and save both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="JSON lines of passages")
    parser.add_argument("--questions", required=True, help="JSON lines of `question` and `golden_answers`")
    parser.add_argument("--output", required=True, help="new folder for model and tokenizer")
    parser.add_argument("--vocab_size", type=int, default=4096, help="number of tokens (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=200, help="training steps of 8 demonstrations (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    args = parser.parse_args()
    if Path(args.output).exists():
        parser.error(f"{args.output} exists; choose another --output")
    questions = load_questions(args.questions)["question"]
    passages = list(islice(read_corpus(args.corpus), 5000))
    tokenizer = make_tokenizer(passages, args.vocab_size)
    config = SFTConfig(
        output_dir=args.output,
        max_steps=args.steps,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_steps=50,
        seed=args.seed,
    )
    trainer = SFTTrainer(
        model=make_model(tokenizer, args.seed),
        args=config,
        train_dataset=make_demonstrations(list(questions), passages, args.steps * 8, args.seed),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(args.output)
    print(f"{trainer.model.num_parameters():,} parameters, {len(tokenizer):,} tokens: {args.output}")


if __name__ == "__main__":
    main()
