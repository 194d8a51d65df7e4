"""SearchWorld's tokenizer: it loses nothing, keeps rollouts short, and works wherever Qwen2's does."""

import hashlib
import json

import pytest
import torch
from transformers import AutoTokenizer, StopStringCriteria

from tspo_trl.data import searchworld_tokenizer
from tspo_trl.data.entities import CHAIN_RELATIONS
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.quickstart.policy import make_policy
from tspo_trl.search.base import Passage

PROTOCOL = TagProtocol()
PASSAGES = [
    Passage("0", '"Ada Abbot"', "Ada Abbot had mentor Otto Gibbs, birthplace Lake Dalby and debut Paper Song."),
    Passage("1", '"Lake Dalby"', "Lake Dalby had founder Vera Moreau and anthem Lost Harbor."),
]


@pytest.mark.parametrize(
    "text",
    [
        "Question: Who is Ada Abbot's birthplace's founder?\n",
        "<search> Ada Abbot </search>",
        "<think> mentor Otto Gibbs </think><answer> Otto Gibbs </answer>",
        PROTOCOL.render(PASSAGES).text,
        PROTOCOL.render([]).text,
        PROTOCOL.invalid_action().text,
        PROTOCOL.prompt("who wrote it"),
        "anything else:\tÜber  naïve </search>\r\n\n 東京 <|im_end|>",
        "Adas <search></search> islander's",
    ],
)
def test_every_text_decodes_to_itself(world_tokenizer, text):
    ids = world_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert world_tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text


def test_whole_world_decodes_to_itself(world_tokenizer, world):
    texts = [passage["contents"] for passage in world.corpus] + [one["prompt"] for one in world.test_questions]
    assert [world_tokenizer.decode(ids) for ids in world_tokenizer(texts)["input_ids"]] == texts


def test_a_word_of_the_world_is_one_token(world_tokenizer):
    tokens = world_tokenizer.tokenize("<search> Ada Abbot </search>")
    assert tokens == ["<search>", " Ada", " Abbot", " </search>"]


def test_words_of_other_relations_are_one_token_each():
    tokenizer = searchworld_tokenizer(CHAIN_RELATIONS)
    assert tokenizer.tokenize("<think> rival Ada Abbot </think>") == [
        "<think>",
        " rival",
        " Ada",
        " Abbot",
        " </think>",
    ]


def test_vocabulary_stays_the_same(world_tokenizer):
    vocabulary = sorted(world_tokenizer.get_vocab().items())
    digest = hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()
    assert digest == "919550c458f92977f2d211d5a67975e36fb9041909c2df8cc66f8468a8748423"


def test_a_name_has_the_same_tokens_in_question_passage_and_answer(world_tokenizer):
    name = world_tokenizer.tokenize(" Ada Abbot")
    for text in (
        "Question: Who is Ada Abbot's mentor?\n",
        PROTOCOL.render(PASSAGES).text,
        "<answer> Ada Abbot </answer>",
    ):
        tokens = world_tokenizer.tokenize(text)
        assert any(tokens[i : i + 2] == name for i in range(len(tokens)))


def test_feedback_has_the_same_tokens_alone_as_behind_a_turn(world_tokenizer):
    turn, feedback = "<search> Ada Abbot </search>", PROTOCOL.render(PASSAGES).text
    apart = world_tokenizer(turn)["input_ids"] + world_tokenizer(feedback)["input_ids"]
    assert world_tokenizer(turn + feedback)["input_ids"] == apart


def test_padding_is_not_the_end(world_tokenizer):
    assert world_tokenizer.pad_token_id != world_tokenizer.eos_token_id


def test_auto_tokenizer_loads_it_from_beside_the_policy(world_tokenizer, tmp_path):
    make_policy(world_tokenizer).save_pretrained(tmp_path)
    world_tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = PROTOCOL.render(PASSAGES).text + "<answer> Otto Gibbs </answer>"
    assert loaded(text)["input_ids"] == world_tokenizer(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert (loaded.eos_token_id, loaded.pad_token_id) == (world_tokenizer.eos_token_id, world_tokenizer.pad_token_id)


@pytest.mark.parametrize(
    "text", ["<search> Ada Abbot </search>", "<answer> Ada Abbot </answer>", "x </search>", "</answer>"]
)
def test_stop_strings_are_seen_at_the_closing_tag_and_not_before(world_tokenizer, text):
    criterion = StopStringCriteria(world_tokenizer, list(PROTOCOL.stop_strings))
    ids = world_tokenizer(text, return_tensors="pt")["input_ids"]
    assert criterion(ids, None).item()
    assert not criterion(ids[:, :-1], None).item()


def test_generation_stops_at_a_stop_string(world_tokenizer):
    model = make_policy(world_tokenizer).eval()
    closing = world_tokenizer.convert_tokens_to_ids(" </search>")
    prompt = world_tokenizer("<search> Ada Abbot", return_tensors="pt")
    bias = {(closing,): 1000.0}
    ids = model.generate(
        **prompt, stop_strings=["</search>"], tokenizer=world_tokenizer, max_new_tokens=8, sequence_bias=bias
    )
    assert world_tokenizer.decode(ids[0]) == "<search> Ada Abbot </search>"
    assert torch.equal(ids[0, :-1], prompt["input_ids"][0])
