"""A tiny BERT with random weights and its WordPiece tokenizer, in the folder layout of sentence-transformers."""

import json

WORDS = ["the", "is", "a", "river", "in", "france", "italy", "rome", "capital", "of", "seine", "tiber", "paris"]
WORDS += ["who", "what", "where", "film", "born", "director"]
POOLING_KEYS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def make_tokenizer(folder):
    """Save a WordPiece vocabulary of a few words and all letters in a new folder, and return its tokenizer."""
    from transformers import BertTokenizerFast

    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,?!\"'-()"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{x}" for x in letters)]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)) + "\n", encoding="utf-8")
    return BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=128)


def make_tiny_bert(folder, seed=0):
    """Save a BERT with two layers, width 32 and no pooling, and return its folder as a string."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = make_tokenizer(folder)
    torch.manual_seed(seed)
    # With the usual initial weights all texts have almost the same vector.
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def make_tiny_encoder(folder, pooling="mean", prompts=None, seed=0):
    """Save the same with `modules.json`, as sentence-transformers does, and return its folder as a string."""
    make_tiny_bert(folder, seed)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    config = {"word_embedding_dimension": 32, **{key: pooling == mode for mode, key in POOLING_KEYS.items()}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if prompts:
        saved = {"prompts": prompts, "default_prompt_name": None}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(saved), encoding="utf-8")
    return str(folder)
