"""Configurations of Qwen2.5 models, as in their `config.json` on the hub, in folders without weights."""

from pathlib import Path

QWEN2_5_3B = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
}
QWEN2_5_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
}


def save_without_weights(folder, tokenizer, shape):
    """Writes only `config.json` and a tokenizer. Returns the folder."""
    from transformers import Qwen2Config

    Qwen2Config(architectures=["Qwen2ForCausalLM"], **shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert not list(Path(folder).glob("*.safetensors")) + list(Path(folder).glob("*.bin"))
    return str(folder)
