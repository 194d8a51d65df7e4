"""A small Qwen2 policy, made from scratch.

Two layers are enough to look a name up and copy it: one brings each token its predecessor, the next finds what
followed the same token before (an induction head). Finding the first of them by gradient descent takes most of a small
model's training, so some heads begin as heads that look at the token before (ours).
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
            Gives the size of the vocabulary and the ids of the special tokens.
        max_length (`int`, *optional*, defaults to `512`):
            Longest sequence, in tokens.
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
        # The default of 0.02 is for wide models: a narrow one spends hundreds of steps on growing its weights from it.
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
    Set the first layer's first heads to look one token back.

    With constant queries and keys the score of two tokens depends on their distance only, through the rotary
    embedding: each pair of dimensions adds the cosine of its angle. The keys are turned so that all of them peak at a
    distance of one.
    """
    attention = model.model.layers[0].self_attn
    half = attention.head_dim // 2
    angles = _ROPE_THETA ** (-torch.arange(half) / half)
    for head in range(_PREVIOUS_TOKEN_HEADS):
        rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        attention.q_proj.bias[rows] = _SHARPNESS * torch.cat([torch.ones(half), torch.zeros(half)])
        attention.k_proj.bias[rows] = torch.cat([angles.cos(), angles.sin()]) * _SHARPNESS
        # What a token is should matter little to these heads at first.
        attention.q_proj.weight[rows] *= 0.1
        attention.k_proj.weight[rows] *= 0.1
