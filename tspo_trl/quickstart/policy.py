"""Makes a small Qwen2 policy from scratch.

Two layers are enough to look up and copy a name: the first gives each token its predecessor, the second finds the
token that followed an earlier occurrence (an induction head). Gradient descent would spend most of a small model's
training on the first layer's heads, so some heads start out looking at the previous token.
"""

import torch
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM, set_seed

_HIDDEN_SIZE, _NUM_LAYERS, _NUM_HEADS = 128, 2, 4
_ROPE_THETA = 1000.0
_PREVIOUS_TOKEN_HEADS, _SHARPNESS = 2, 4.0


def make_policy(tokenizer: PreTrainedTokenizerBase, *, max_length: int = 512, seed: int = 0) -> Qwen2ForCausalLM:
    """
    Make an untrained policy of about 350,000 parameters.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer. Its vocabulary size and special tokens go into the configuration.
        max_length (`int`, *optional*, defaults to `512`):
            Maximum length of a sequence in tokens.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights.

    Returns:
        [`~transformers.Qwen2ForCausalLM`]: in float32.
    """
    set_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=_HIDDEN_SIZE,
        intermediate_size=2 * _HIDDEN_SIZE,
        num_hidden_layers=_NUM_LAYERS,
        num_attention_heads=_NUM_HEADS,
        num_key_value_heads=_NUM_HEADS,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        # The default of 0.02 suits wide models. A narrow model would need hundreds of steps to grow its weights.
        initializer_range=0.06,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    _look_at_previous_token(model)
    return model


@torch.no_grad()
def _look_at_previous_token(model: Qwen2ForCausalLM) -> None:
    """
    Make the first heads of the first layer look one token back.

    With constant queries and keys, the score of two tokens depends only on their distance, through the rotary
    embedding. Each pair of dimensions adds the cosine of its angle. The keys are rotated so that all cosines peak at a
    distance of one token.
    """
    attention = model.model.layers[0].self_attn
    half = attention.head_dim // 2
    angles = _ROPE_THETA ** (-torch.arange(half) / half)
    for head in range(_PREVIOUS_TOKEN_HEADS):
        rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        attention.q_proj.bias[rows] = _SHARPNESS * torch.cat([torch.ones(half), torch.zeros(half)])
        attention.k_proj.bias[rows] = torch.cat([angles.cos(), angles.sin()]) * _SHARPNESS
        # At first, the tokens themselves should matter little to these heads.
        attention.q_proj.weight[rows] *= 0.1
        attention.k_proj.weight[rows] *= 0.1
