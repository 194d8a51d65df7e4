"""The answer metrics and other implementations: 32 hand-made and 10,000 generated cases, question by question."""

import pytest

from tspo_trl.answers import cover_exact_match, exact_match, f1_score
from tspo_trl.evaluation.metrics import load_metric

from .answer_cases import HAND_MADE, generated_cases
from .reference_scripts import (
    SEARCH_R1_SCRIPT,
    SQUAD_SCRIPT,
    SQUAD_V2_SCRIPT,
    official_script,
    reference_cover_exact_match,
    reference_exact_match,
    reference_f1,
)

CASES = HAND_MADE + generated_cases(10_000, seed=0)
EMPTY = ("a_n", ["an", "The."])  # prediction and gold answers normalise to nothing


def differing(ours, theirs):
    """The cases in which two metrics differ, shortened for the error message."""
    return [
        (prediction[:80], ours(prediction, golds), theirs(prediction, golds))
        for prediction, golds in CASES
        if ours(prediction, golds) != pytest.approx(theirs(prediction, golds), abs=1e-12)
    ]


def test_cases_match_often_enough_to_tell_metrics_apart():
    exact = sum(exact_match(*case) for case in CASES)
    overlapping = sum(0 < f1_score(*case) < 1 for case in CASES)
    covered = sum(cover_exact_match(*case) for case in CASES)
    by_substrings = sum(cover_exact_match(*case, match="substring") for case in CASES)
    assert 0.3 * len(CASES) < exact < covered - 500 < by_substrings - 600 < 0.7 * len(CASES)
    assert overlapping > 0.3 * len(CASES)


def test_answer_metrics_equal_their_definitions_case_by_case():
    assert differing(exact_match, reference_exact_match) == []
    assert differing(f1_score, reference_f1) == []


@pytest.mark.parametrize("match", ["token", "substring"])
def test_cover_exact_match_equals_its_definition_case_by_case(match):
    def ours(prediction, golds):
        return cover_exact_match(prediction, golds, match=match)

    def theirs(prediction, golds):
        return reference_cover_exact_match(prediction, golds, match)

    assert differing(ours, theirs) == []


@pytest.mark.parametrize(("name", "reference"), [("exact_match", reference_exact_match), ("f1", reference_f1)])
def test_modules_give_the_mean_of_the_definitions(name, reference):
    predictions, references = zip(*CASES, strict=True)
    result = load_metric(name).compute(predictions=list(predictions), references=list(references))
    assert result == pytest.approx({name: sum(reference(*case) for case in CASES) / len(CASES)}, abs=1e-12)


def torchmetrics_squad(prediction, golds):
    """Exact match and F1 of one question by `torchmetrics`, in single precision."""
    from torchmetrics.functional.text import squad

    answers = {"answer_start": [0] * len(golds), "text": golds}
    scores = squad([{"prediction_text": prediction, "id": "0"}], [{"answers": answers, "id": "0"}])
    return scores["exact_match"].item() / 100, scores["f1"].item() / 100


def test_exact_match_and_f1_equal_those_of_torchmetrics_case_by_case():
    for case in CASES:
        assert (exact_match(*case), f1_score(*case)) == pytest.approx(torchmetrics_squad(*case), abs=1e-6), case


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("Beyoncé", "Beyonce"),
        ("Cafe\u0301", "Caf\u00e9"),  # decomposed and composed
        ("O\u2019Neill", "O'Neill"),  # a typographic apostrophe
        ("1914\u20131918", "1914-1918"),  # an en dash
        ("\u00abParis\u00bb", "Paris"),
        ("\ufb01nal", "final"),  # a ligature
        ("\uff11\uff19\uff12\uff14", "1924"),  # full-width digits
        ("x\u00b2", "x2"),
    ],
)
def test_accents_and_unicode_punctuation_are_what_differs_from_squad(prediction, gold):
    assert (exact_match(prediction, [gold]), f1_score(prediction, [gold])) == (1.0, 1.0)
    assert torchmetrics_squad(prediction, [gold]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("the 東京", "東京"),
        ("ΠΑΡΙΣΙ", "παρισι"),
        ("\u20ac5", "\u20ac 5"),  # a currency sign is not punctuation
        ("New\u00a0York", "New York"),
        ("Łódź", "Lodz"),  # the stroke of Ł is not an accent
    ],
)
def test_other_unicode_scores_as_with_squad(prediction, gold):
    ours = exact_match(prediction, [gold]), f1_score(prediction, [gold])
    assert ours == pytest.approx(torchmetrics_squad(prediction, [gold]), abs=1e-6)


def test_squad_script_differs_only_where_both_sides_are_empty():
    squad = official_script(SQUAD_SCRIPT)

    def best(metric):
        return lambda prediction, golds: float(squad.metric_max_over_ground_truths(metric, prediction, golds))

    assert differing(exact_match, best(squad.exact_match_score)) == []
    assert differing(f1_score, best(squad.f1_score)) == []
    assert exact_match(*EMPTY) == best(squad.exact_match_score)(*EMPTY) == 1.0
    assert (f1_score(*EMPTY), best(squad.f1_score)(*EMPTY)) == (1.0, 0.0)  # `f1_score` is SQuAD 2.0's


def test_squad_v2_script_equals_ours_for_every_pair():
    squad = official_script(SQUAD_V2_SCRIPT)

    def best(metric):
        return lambda prediction, golds: float(max(metric(gold, prediction) for gold in golds))

    assert differing(exact_match, best(squad.compute_exact)) == []
    assert differing(f1_score, best(squad.compute_f1)) == []
    assert exact_match(*EMPTY) == best(squad.compute_exact)(*EMPTY) == 1.0
    assert f1_score(*EMPTY) == best(squad.compute_f1)(*EMPTY) == 1.0


def test_search_r1_script_differs_only_where_an_empty_gold_answer_is_everywhere():
    search_r1 = official_script(SEARCH_R1_SCRIPT)

    def by_substrings(prediction, golds):
        return cover_exact_match(prediction, golds, match="substring")

    assert differing(exact_match, search_r1.em_check) == []
    assert differing(by_substrings, search_r1.subem_check) == []
    assert exact_match(*EMPTY) == by_substrings(*EMPTY) == search_r1.em_check(*EMPTY) == 1.0
    assert (by_substrings("Beijing", ["the"]), search_r1.subem_check("Beijing", ["the"])) == (0.0, 1)
