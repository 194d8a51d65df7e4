"""The frame that a protocol puts around passages is no evidence."""

import pytest

from tspo_trl.credit import first_occurrence
from tspo_trl.credit.evidence import own_words
from tspo_trl.protocols.base import Call, ParsedAction
from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.protocols.passages import passages_text
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.feedback import encode_feedbacks
from tspo_trl.search import Passage

from ..chat_tokenizer import make_chat_tokenizer

PASSAGES = [
    Passage("7", '"Emma (novel)"', "By Jane Austen.\nIts heroine."),
    Passage("9", "Bath", "A city, of cafes"),
]
FRAME = ["Doc", "Title", "1", "2", "Doc 1", "Title Emma", "information", "D", "Do", "T", "Ti", "role", "content"]
OWN = ["Emma", "Emma novel", "Jane Austen", "heroine", "Bath", "city", "city of cafes"]
SUBSTRING = {"match": "substring"}


def test_the_frame_of_passages_has_no_answer_and_their_words_do():
    text = passages_text(PASSAGES)
    assert [gold for gold in FRAME if first_occurrence([text], [gold]) is not None] == []
    assert [gold for gold in OWN if first_occurrence([text], [gold]) is None] == []
    assert len(own_words(text)) == len(text)


def test_an_answer_that_reads_like_the_frame_is_found_in_a_passage():
    text = passages_text([Passage("1", '"What\'s Up, Doc?"', "Doc 1 is a title. What to Do")])
    assert [gold for gold in ("Doc", "1", "title", "Do", "Doc 1") if first_occurrence([text], [gold]) is None] == []


def test_no_answer_stretches_from_one_passage_to_the_next():
    text = passages_text([Passage("1", '"A"', "Born in Paris"), Passage("2", '"Texas"', "A state")])
    assert first_occurrence([text], ["Paris, Texas"]) is None
    assert first_occurrence([text], ["Paris Texas"], **SUBSTRING) is None
    assert (
        first_occurrence(["<information>Paris</information>\n<information>Texas</information>"], ["Paris Texas"])
        is None
    )


@pytest.mark.parametrize("template", ["tags", "qwen3", "llama3_1"])
@pytest.mark.parametrize("num_calls", [1, 2])
def test_feedback_that_is_cut_anywhere_keeps_its_frame_apart(template, num_calls, tokenizer):
    protocol = TagProtocol()
    if template != "tags":
        tokenizer = make_chat_tokenizer(template, "<|eot_id|>" if template.startswith("llama") else "<|im_end|>")
        protocol = ChatToolProtocol(tokenizer)
    elif num_calls > 1:
        return
    parts = protocol.feedback(ParsedAction("search", "q", (Call("q"),) * num_calls), {"q": PASSAGES})
    whole = encode_feedbacks([parts], tokenizer, 10_000)[0][0]
    found = set()
    for length in range(len(whole) + 1):
        ids, kept = encode_feedbacks([parts], tokenizer, length)[0]
        evidence = "\n".join(part.body for part in kept) if ids else ""
        assert [gold for gold in FRAME if first_occurrence([evidence], [gold]) is not None] == [], evidence
        found |= {gold for gold in OWN if first_occurrence([evidence], [gold]) is not None}
    assert found == set(OWN)


@pytest.mark.parametrize("end", range(len("\nDoc 12(Title: ") + 1))
def test_a_cut_frame_is_no_evidence_after_any_character(end):
    text = 'Doc 1(Title: "Emma") A novel.'
    for tail in ("", "</information>", "\nDoc 1(Title: Bath) A city."):
        cut = text + "\nDoc 12(Title: "[:end] + tail
        golds = [gold for gold in (*FRAME, "12", "Tit", "Doc 12") if first_occurrence([cut], [gold]) is not None]
        assert golds == [], cut
        in_one_line = cut.replace('"', '\\"').replace("\nDoc 12", " Doc 12")
        assert [gold for gold in FRAME if first_occurrence([in_one_line], [gold]) is not None] == [], in_one_line
