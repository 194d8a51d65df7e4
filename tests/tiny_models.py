"""Tiny tokenizers and Qwen2 models, created by the tests. The models learn to act in the turns of a rollout."""

TAG_ENDINGS = ["?\n", "</information>\n\n", "try again.\n"]
TAG_ACTIONS = ["<search> France </search>", "<search> Rome </search>", "<answer> Paris </answer>"]
TAG_ACTIONS += ["<answer> Rome </answer>", "hm<|im_end|>"]


def train_tokenizer(texts, vocab_size, special_tokens, **tokens):
    """Byte-level BPE, trained on each text twice. Every text decodes to itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=special_tokens)
    backend.train_from_iterator(texts * 2, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|endoftext|>", **tokens)


def tiny_qwen2(tokenizer, **changes):
    """A Qwen2 model with random weights: two layers of width 32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 2, "num_key_value_heads": 2, **changes}
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **settings, **tokens))


def teach(model, tokenizer, endings, actions, with_endings=True):
    """Train the model to write each action after each ending, at any position."""
    import torch

    texts = [ending + action for ending in endings for action in actions]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    if not with_endings:
        for row, text in zip(labels, texts, strict=True):
            row[: max(len(tokenizer(ending)["input_ids"]) for ending in endings if text.startswith(ending))] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        # Positions differ at every step, because rollouts act at any position.
        positions = torch.arange(labels.shape[1]) + torch.randint(0, 400, (len(texts), 1))
        model(**batch, position_ids=positions, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def save(model, tokenizer, path):
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def teach_to_call(model, tokenizer):
    """Train the model to make valid and invalid calls, several calls per turn, and answers."""
    from tspo_trl.protocols.chat import ChatToolProtocol

    call = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
    france, rome = call.format("search", '{"query": "France"}'), call.format("search", '{"query": "Rome"}')
    actions = [france, f"{france}\n{rome}", call.format("browse", "{}"), call.format("search", "Rome"), ""]
    actions += ["<answer> Paris </answer>", "<answer> Rome </answer>"]
    protocol = ChatToolProtocol(tokenizer)
    prompt = tokenizer.apply_chat_template(
        protocol.prompt("What is the capital of France?"),
        tools=protocol.tools,
        add_generation_prompt=True,
        tokenize=False,
    )
    endings = ["</tool_response><|im_end|>\n", "</answer>.<|im_end|>\n"]
    endings = [prompt, *(f"{prompt}{ending}<|im_start|>assistant\n" for ending in endings)]
    teach(model, tokenizer, endings, [f"{action}<|im_end|>" for action in actions], False)
