"""A small tokenizer with one of TRL's chat templates, made on the spot."""

from pathlib import Path

import trl

from tspo_trl.protocols.chat import INSTRUCTIONS

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>"]
SPECIAL_TOKENS += ["<|start_header_id|>", "<|end_header_id|>"]
TEXTS = [
    '<tool_call>\n{"name": "search", "arguments": {"query": "capital of France"}}\n</tool_call>',
    "user\n<tool_response>\nDoc 1(Title: Paris) Paris is the capital of France.\n</tool_response>",
    "Answer the question. <answer> Paris </answer>",
    # What stands in every prompt, so that prompts are short.
    "system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\n"
    "You may call one or more functions to assist with the user query.\n\nYou are provided with function signatures "
    "within <tools></tools> XML tags:\n<tools>\n",
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML "
    'tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
    '{"type": "function", "function": {"name": "search", "description": "Search a collection of texts for the '
    'passages that match a query best.", "parameters": {"type": "object", "properties": {"query": {"type": "string", '
    '"description": "What to search for."}}, "required": ["query"]}}}',
    INSTRUCTIONS,
]


def make_chat_tokenizer(template="qwen2_5", eos_token="<|im_end|>"):
    """
    Byte-level BPE that loses nothing, with the special tokens of Qwen and Llama.

    Args:
        template (`str`, *optional*, defaults to `"qwen2_5"`):
            Name of a file in TRL's `chat_templates`; `None` for none.
        eos_token (`str`, *optional*, defaults to `"<|im_end|>"`):
            End-of-sequence token.

    Returns:
        [`~transformers.PreTrainedTokenizerFast`]
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1_500, initial_alphabet=alphabet, special_tokens=SPECIAL_TOKENS)
    backend.train_from_iterator(TEXTS * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=eos_token, pad_token="<|endoftext|>", bos_token="<|begin_of_text|>"
    )
    if template is not None:
        tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return tokenizer
