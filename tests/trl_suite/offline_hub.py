"""Write local replacements for the tiny models and datasets that TRL's tests load from the Hub.

    python offline_hub.py FOLDER

Run from inside FOLDER, `from_pretrained("trl-internal-testing/...")` and `load_dataset("trl-internal-testing/...")`
find a folder of that name and never ask the Hub. The models are as small as TRL's and randomly initialised. Their
tokenizer knows no merges, only bytes, the special tokens of Qwen, and the few tokens of Qwen that TRL's tests write as
numbers.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import trl
from datasets import Dataset, Features, Image, List, Value
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

CHAT_TEMPLATES = Path(trl.__file__).parent / "chat_templates"

# Tokens that TRL's tests of tool calls pass as ids.
QWEN_TOKENS = {
    314: " {", 330: ' "', 293: " b", 397: ">\n", 411: "out", 450: "dec", 497: '",', 522: "</", 606: "name",
    788: '":', 894: " any", 927: "sh", 944: "'t", 1318: "text", 1414: " know", 1513: " don", 2765: " won",
    4913: '{"', 5212: ' {"', 5392: " tool", 6023: "hi", 6659: "call", 7692: "async", 9520: "step", 11248: "}}\n",
    13477: "rement", 14172: "tool", 16252: " increment", 16370: "arguments", 17453: "Done", 22785: "_tool",
    35744: "increment", 64648: "multiply", 93054: "_multiply", 95642: '"}}\n',
}  # fmt: skip
FIRST_SPECIAL_TOKEN = 151643
SPECIAL_TOKENS = [
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>"),
    *("<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>"),
    *("<think>", "</think>"),
]
VOCAB_SIZE = FIRST_SPECIAL_TOKEN + len(SPECIAL_TOKENS)

SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "bos_token_id": FIRST_SPECIAL_TOKEN,
    "eos_token_id": FIRST_SPECIAL_TOKEN + 2,
    "pad_token_id": FIRST_SPECIAL_TOKEN,
}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}

# Name after "tiny-": model type, chat template, further configuration.
CAUSAL_MODELS = {
    "Qwen2ForCausalLM-2.5": ("qwen2", "qwen2_5", {}),
    "Qwen3ForCausalLM": ("qwen3", "qwen3", {"head_dim": 128}),
    "Qwen3MoeForCausalLM": ("qwen3_moe", "qwen3", {"head_dim": 128, "num_experts": 4, "num_experts_per_tok": 2}),
    "LlamaForCausalLM-3.2": ("llama", "llama3_2", {}),
    "MistralForCausalLM-0.2": ("mistral", "qwen2_5", {"head_dim": 2}),
    "Gemma2ForCausalLM": ("gemma2", "qwen2_5", {"head_dim": 2}),
    "Cohere2ForCausalLM": ("cohere2", "qwen2_5", {"logit_scale": 1.0}),
    "GptOssForCausalLM": ("gpt_oss", "qwen2_5", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "Glm4MoeForCausalLM": ("glm4_moe", "qwen2_5", {"head_dim": 2, "n_routed_experts": 4, **EXPERTS}),
}
REWARD_MODELS = {
    "Qwen2ForSequenceClassification-2.5": ("qwen2", "qwen2_5", {}),
    "Qwen3ForSequenceClassification": ("qwen3", "qwen3", {"head_dim": 128}),
    "LlamaForSequenceClassification-3.2": ("llama", "llama3_2", {}),
}

REMOTE_CODE = """from transformers import LlamaConfig, LlamaForCausalLM


class RemoteConfig(LlamaConfig):
    model_type = "remote"


class RemoteForCausalLM(LlamaForCausalLM):
    config_class = RemoteConfig
"""


def make_tokenizer(template: str) -> PreTrainedTokenizerFast:
    byte_tokens = bytes_to_unicode()
    tokens = [f"unused{index}" for index in range(FIRST_SPECIAL_TOKEN)]
    tokens[:256] = byte_tokens.values()
    for index, text in QWEN_TOKENS.items():
        tokens[index] = "".join(byte_tokens[byte] for byte in text.encode())
    tokens += SPECIAL_TOKENS
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [AddedToken(text, special=text.startswith("<|"), normalized=False) for text in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=(CHAT_TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8"),
    )


def initialize(model: PreTrainedModel) -> PreTrainedModel:
    """Set larger weights than the default, so that the gradients of the small model change every parameter."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
    return model.to(torch.bfloat16)


def write_models(folder: Path) -> None:
    tokenizers = {template: make_tokenizer(template) for template in ("qwen2_5", "qwen3", "llama3_2")}
    for kind, auto_class, further in (
        (CAUSAL_MODELS, AutoModelForCausalLM, {}),
        (REWARD_MODELS, AutoModelForSequenceClassification, {"num_labels": 1, "hidden_size": 16}),
    ):
        for name, (model_type, template, own) in kind.items():
            config = AutoConfig.for_model(model_type, **{**SMALL, **own, **further})
            initialize(auto_class.from_config(config)).save_pretrained(folder / f"tiny-{name}")
            tokenizers[template].save_pretrained(folder / f"tiny-{name}")


def write_remote_code_model(folder: Path) -> None:
    """Write a model that loads only with `trust_remote_code=True`."""
    path = folder / "tiny-RemoteForCausalLM"
    config = AutoConfig.for_model("llama", **SMALL)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    config.auto_map = {
        "AutoConfig": "modeling_remote.RemoteConfig",
        "AutoModelForCausalLM": "modeling_remote.RemoteForCausalLM",
    }
    config.architectures = ["RemoteForCausalLM"]
    text = config.to_json_string(use_diff=False).replace('"model_type": "llama"', '"model_type": "remote"')
    (path / "config.json").write_text(text, encoding="utf-8")
    (path / "modeling_remote.py").write_text(REMOTE_CODE, encoding="utf-8")
    make_tokenizer("llama3_2").save_pretrained(path)


def write_dataset(folder: Path, configurations: dict[str, Dataset]) -> None:
    """Write 4 training and 2 test rows of each configuration, fewer than TRL's to save time."""
    header = ["---", "configs:"]
    for name, dataset in configurations.items():
        header += [f"- config_name: {name}", "  data_files:"]
        for split, rows in (("train", range(4)), ("test", range(4, 6))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            dataset.select(rows).to_parquet(folder / name / f"{split}.parquet")
            header += [f"  - split: {split}", f"    path: {name}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*header, "---", ""]), encoding="utf-8")


def write_datasets(folder: Path) -> None:
    prompts = ["Now is", "Flat is", "Simple", "Complex", "Errors", "Sparse"]
    conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
    standard = Dataset.from_dict({"prompt": prompts})
    conversational = Dataset.from_dict({"prompt": conversations})
    write_dataset(folder / "zen", {"standard_prompt_only": standard, "conversational_prompt_only": conversational})

    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (48, 40, 3), dtype=np.uint8) for _ in prompts]
    message = List({"role": Value("string"), "content": Value("string")})
    one = Dataset.from_dict({"prompt": conversations, "image": images}, Features(prompt=message, image=Image()))
    write_dataset(folder / "zen-image", {"conversational_prompt_only": one})
    pairs = [[image, image] for image in images]
    two = Dataset.from_dict({"prompt": conversations, "images": pairs}, Features(prompt=message, images=List(Image())))
    write_dataset(folder / "zen-multi-image", {"conversational_prompt_only": two})


def main(folder: Path) -> None:
    torch.manual_seed(0)
    organization = folder / "trl-internal-testing"
    write_models(organization)
    write_remote_code_model(organization)
    write_datasets(organization)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
