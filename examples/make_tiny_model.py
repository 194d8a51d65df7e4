"""Make a tiny Qwen2 model with random weights and a tokenizer for a corpus, to try a pipeline on a laptop.

    python examples/make_tiny_model.py --corpus corpus.jsonl --output models/tiny

The model has about a million parameters and knows nothing: it is for checking that an index, a dataset and a
configuration run, before a real model is trained.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tspo_trl.protocol import TagProtocol
from tspo_trl.trajectory import read_json_lines


def make_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE in Qwen's manner, trained on the texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """Two layers of width 64."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def main() -> None:
    """Read the corpus, train the tokenizer, save both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="JSON lines with `contents`")
    parser.add_argument("--output", required=True, help="folder for model and tokenizer, must not exist")
    parser.add_argument("--vocab_size", type=int, default=4096, help="number of tokens (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default: %(default)s)")
    args = parser.parse_args()
    if Path(args.output).exists():
        parser.error(f"{args.output} exists; choose another --output")
    passages = (record["contents"] for record in islice(read_json_lines(args.corpus), 5000))
    tokenizer = make_tokenizer(
        (text for texts in ([TagProtocol().prompt("?")], passages) for text in texts), args.vocab_size
    )
    model = make_model(tokenizer, args.seed)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens: {args.output}")


if __name__ == "__main__":
    main()
