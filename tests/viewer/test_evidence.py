"""Evidence is shown passage by passage."""

from tspo_trl.viewer import ViewOptions
from tspo_trl.viewer.evidence import passages


def of(evidence, *golds, **options):
    return [(one["heading"], one["text"]) for one in passages(evidence, golds, ViewOptions(**options))]


def test_each_passage_has_its_heading_and_its_text():
    evidence = 'Doc 1(Title: "Emma (novel)") By Jane Austen.\nIts heroine.\nDoc 2(Title: Bath) A city.'
    assert of(evidence, "Jane Austen") == [
        (['Doc 1(Title: "Emma (novel)") '], ["By ", "Jane Austen.", "\nIts heroine.\n"]),
        (["Doc 2(Title: Bath) "], ["A city."]),
    ]


def test_an_answer_may_stand_in_a_heading_and_across_its_end():
    assert of('Doc 1(Title: "Jane") Austen wrote', "Jane Austen") == [
        (["Doc 1(Title: ", '"Jane") ', ""], ["", "Austen", " wrote"])
    ]


def test_the_frame_of_a_passage_is_not_marked():
    evidence = 'Doc 1(Title: "Emma") Doc 1 is a title.\nDoc 2(Ti'
    assert of(evidence, "1", "title", "Doc") == [
        (['Doc 1(Title: "Emma") '], ["", "Doc", " ", "1", " is a ", "title.", "\nDoc 2(Ti"]),
    ]


def test_text_of_another_form_is_one_passage():
    assert of("(1) Emma, by Jane Austen", "emma") == [([""], ["(1) ", "Emma,", " by Jane Austen"])]


def test_text_before_the_first_heading_is_not_lost():
    assert of("Found:\nDoc 1(Title: A) b", "x") == [([""], ["Found:\n"]), (["Doc 1(Title: A) "], ["b"])]


def test_options_say_what_matches():
    assert of("in 1924", "24", match="substring") == [([""], ["in ", "1924", ""])]
    assert of("say no", "no", match_boolean_answers=True) == [([""], ["say ", "no", ""])]
