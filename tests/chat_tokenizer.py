"""A small tokenizer with one of TRL's chat templates."""

from pathlib import Path

import trl

from tspo_trl.protocols.chat import INSTRUCTIONS

from .tiny_models import train_tokenizer

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>"]
SPECIAL_TOKENS += ["<|start_header_id|>", "<|end_header_id|>"]
TEXTS = [
    '<tool_call>\n{"name": "search", "arguments": {"query": "capital of France"}}\n</tool_call>',
    "user\n<tool_response>\nDoc 1(Title: Paris) Paris is the capital of France.\n</tool_response>",
    "Answer the question. <answer> Paris </answer>",
    # Texts of every prompt, so that prompts are short.
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
    Create a tokenizer with the special tokens of Qwen and Llama.

    Args:
        template (`str`, *optional*, defaults to `"qwen2_5"`):
            Name of a file in TRL's `chat_templates`. `None` for no chat template.
        eos_token (`str`, *optional*, defaults to `"<|im_end|>"`):
            End-of-sequence token.

    Returns:
        [`~transformers.PreTrainedTokenizerFast`]
    """
    tokenizer = train_tokenizer(TEXTS, 1_500, SPECIAL_TOKENS, eos_token=eos_token, bos_token="<|begin_of_text|>")
    if template is not None:
        tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return tokenizer
