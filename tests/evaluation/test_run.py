"""An evaluation from its questions to its report, interrupted and resumed."""

import json

import pytest
from datasets import Dataset

from tspo_trl.evaluation.agent import SearchAgent
from tspo_trl.evaluation.openai_client import EndpointError, RefusedRequestError
from tspo_trl.evaluation.run import fingerprint, run_evaluation
from tspo_trl.protocols.tags import TagProtocol
from tspo_trl.rollout.loop import RolloutLoop
from tspo_trl.rollout.state import RolloutLimits
from tspo_trl.search import SearchError

from .scripted_turns import ScriptedTurns

ANSWERS = {
    "What is the capital of France?": "Paris",
    "What is the capital of Germany?": "Bonn",
    "What is the capital of Spain?": "Madrid",
    "Which river rises at Mount Fumaiolo?": "the Tiber",
    "Who built the walls of Troy?": "Poseidon",
}
GOLDS = ["Paris", "Berlin", "Madrid", "Tiber", "Poseidon"]
QUESTIONS = Dataset.from_list(
    [
        {"id": str(i), "question": question, "golden_answers": [gold], "data_source": "rivers" if i == 3 else "towns"}
        for i, (question, gold) in enumerate(zip(ANSWERS, GOLDS, strict=True))
    ]
)
SETTINGS = {"model": "scripted"}


@pytest.fixture
def make_agent(tokenizer, retriever):
    def make(searched=retriever, max_context_length=None, **script):
        limits = RolloutLimits(
            max_turns=2,
            max_turn_length=100,
            max_feedback_length=100,
            max_completion_length=500,
            top_k=1,
            max_context_length=max_context_length,
        )
        turns = ScriptedTurns(tokenizer, ANSWERS, **script)
        return SearchAgent(RolloutLoop(tokenizer, searched, TagProtocol(), limits), turns)

    return make


def evaluate(agent, folder, questions=QUESTIONS, settings=SETTINGS, batch_size=2):
    return run_evaluation(questions, agent, folder, settings, batch_size=batch_size)


def lines(folder):
    files = sorted((folder / "trajectories").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def report_files(folder):
    return [(folder / f"report.{kind}").read_bytes() for kind in ("json", "md", "csv")]


class FailingRetriever:
    """Retriever that fails on queries with a certain word, and answers the others."""

    def __init__(self, retriever, word):
        self.retriever, self.word = retriever, word

    def search(self, queries, k):
        found = self.retriever.search(queries, k)
        return [None if self.word in query else passages for query, passages in zip(queries, found, strict=True)]


def test_every_question_is_scored_in_the_report(make_agent, tmp_path):
    report = evaluate(make_agent(), tmp_path)
    towns, rivers = report["datasets"]["towns"], report["datasets"]["rivers"]
    assert (towns["n"], rivers["n"], report["missing"]) == (4, 1, 0)
    assert towns["exact_match"]["mean"] == 3 / 4  # all but Bonn
    assert rivers["exact_match"]["mean"] == 1.0
    assert towns["retrieval_recall"]["mean"] == 3 / 4  # there is no passage about Troy
    assert towns["near_miss"]["mean"] == 1 / 4  # Berlin was found, and Bonn the answer
    assert towns["searches"]["mean"] == 1.0
    assert report["macro"]["exact_match"]["mean"] == (3 / 4 + 1) / 2


def test_line_holds_question_scores_and_rollout(make_agent, tmp_path):
    evaluate(make_agent(), tmp_path)
    line = lines(tmp_path)[1]
    assert line["question"] == "What is the capital of Germany?"
    assert (line["data_source"], line["id"], line["golden_answers"]) == ("towns", "1", ["Berlin"])
    assert (line["exact_match"], line["outcome"], line["near_miss"]) == (0.0, 0.0, 1.0)
    assert (line["first_occurrence"], line["prediction"], line["end_reason"]) == (0, "Bonn", "answered")
    assert line["turns"][0]["queries"] == ["What is the capital of Germany?"]


def test_interrupted_evaluation_asks_only_what_has_no_answer(make_agent, tmp_path):
    with pytest.raises(EndpointError, match="gone"):
        evaluate(make_agent(broken="Which river rises at Mount Fumaiolo?", error=EndpointError("gone")), tmp_path)
    assert [line["id"] for line in lines(tmp_path)] == ["0", "1"]
    resumed = make_agent()
    evaluate(resumed, tmp_path)
    assert resumed.generate.asked == list(ANSWERS)[2:]


def test_interrupted_evaluation_gives_the_table_of_one_in_one_go(make_agent, tmp_path):
    with pytest.raises(EndpointError):
        evaluate(make_agent(broken="Who built the walls of Troy?", error=EndpointError("gone")), tmp_path / "a")
    evaluate(make_agent(), tmp_path / "a")
    evaluate(make_agent(), tmp_path / "b")
    assert report_files(tmp_path / "a") == report_files(tmp_path / "b")


def test_finished_evaluation_asks_nothing_and_gives_the_same_report(make_agent, tmp_path):
    evaluate(make_agent(), tmp_path)
    before = report_files(tmp_path)
    again = make_agent()
    evaluate(again, tmp_path)
    assert again.generate.asked == []
    assert report_files(tmp_path) == before


def test_line_that_was_being_written_when_the_run_was_killed_is_asked_again(make_agent, tmp_path):
    evaluate(make_agent(), tmp_path)
    path = tmp_path / "trajectories" / "process_0.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    resumed = make_agent()
    report = evaluate(resumed, tmp_path)
    assert resumed.generate.asked == ["Who built the walls of Troy?"]
    assert report["questions"] == 5
    assert len(lines(tmp_path)) == 5


def test_question_whose_search_failed_is_missing_and_asked_again(make_agent, retriever, tmp_path):
    report = evaluate(make_agent(FailingRetriever(retriever, "Spain")), tmp_path)
    assert (report["datasets"]["towns"]["n"], report["datasets"]["towns"]["missing"], report["missing"]) == (3, 1, 1)
    resumed = make_agent()
    assert evaluate(resumed, tmp_path)["missing"] == 0
    assert resumed.generate.asked == ["What is the capital of Spain?"]


def test_question_that_the_endpoint_refuses_is_missing_and_costs_no_other(make_agent, tmp_path):
    refusing = make_agent(broken="What is the capital of Spain?", error=RefusedRequestError("too long"))
    report = evaluate(refusing, tmp_path, batch_size=5)
    assert (report["missing"], report["datasets"]["towns"]["n"], report["datasets"]["rivers"]["n"]) == (1, 3, 1)


def test_question_whose_prompt_fills_the_context_is_missing_and_costs_no_other(make_agent, tmp_path, caplog):
    long = {**QUESTIONS[2], "question": "What is the capital of Spain?" * 1000}
    questions = Dataset.from_list([QUESTIONS[0], QUESTIONS[1], long])
    report = evaluate(make_agent(max_context_length=2000), tmp_path, questions, batch_size=3)
    assert (report["questions"], report["missing"]) == (2, 1)
    assert [line["id"] for line in lines(tmp_path)] == ["0", "1"]
    assert "No answer to '2': a prompt of" in caplog.text


def test_second_run_on_a_folder_is_refused_while_the_first_writes(make_agent, tmp_path):
    first, second = make_agent(), make_agent()
    generate = first.generate

    def while_the_first_runs(*args):
        with pytest.raises(FileExistsError, match="Another run is writing to"):
            evaluate(second, tmp_path)
        return generate(*args)

    first.generate = while_the_first_runs
    assert evaluate(first, tmp_path)["missing"] == 0
    assert second.generate.asked == []


def test_dataset_without_any_answer_is_in_the_report(make_agent, retriever, tmp_path):
    report = evaluate(make_agent(FailingRetriever(retriever, "Fumaiolo")), tmp_path)
    assert (report["datasets"]["rivers"]["n"], report["datasets"]["rivers"]["missing"]) == (0, 1)


def test_evaluation_in_which_every_search_failed_has_a_report(make_agent, retriever, tmp_path):
    report = evaluate(make_agent(FailingRetriever(retriever, "")), tmp_path)
    assert (report["questions"], report["missing"]) == (0, 5)


def test_other_settings_are_refused(make_agent, tmp_path):
    evaluate(make_agent(), tmp_path)
    with pytest.raises(FileExistsError, match=r"model='scripted' there, 'other' here"):
        evaluate(make_agent(), tmp_path, settings={"model": "other"})


@pytest.mark.parametrize("changed", [{"match": "substring"}, {"match_boolean_answers": True}])
def test_other_matching_of_gold_answers_is_refused(make_agent, tmp_path, changed):
    evaluate(make_agent(), tmp_path)
    with pytest.raises(FileExistsError, match=next(iter(changed))):
        run_evaluation(QUESTIONS, make_agent(), tmp_path, SETTINGS, batch_size=2, **changed)


def test_other_questions_are_refused(make_agent, tmp_path):
    evaluate(make_agent(), tmp_path)
    with pytest.raises(FileExistsError, match="questions="):
        evaluate(make_agent(), tmp_path, questions=QUESTIONS.select(range(4)))


def test_folder_of_something_else_is_left_alone(make_agent, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="does not belong to this evaluation"):
        evaluate(make_agent(), tmp_path)


def test_two_questions_of_one_name_are_refused(make_agent, tmp_path):
    twice = Dataset.from_list([QUESTIONS[0], QUESTIONS[0]])
    with pytest.raises(ValueError, match=r"2 questions have the `data_source` 'towns' and the `id` '0'"):
        evaluate(make_agent(), tmp_path, questions=twice)
    assert not list(tmp_path.iterdir())


def test_batch_size_below_one_is_refused(make_agent, tmp_path):
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1, got 0"):
        evaluate(make_agent(), tmp_path, batch_size=0)


def test_fingerprint_tells_questions_apart():
    changed = QUESTIONS.map(lambda row: {"golden_answers": ["Lyon"]} if row["id"] == "0" else {})
    before, after = fingerprint(QUESTIONS), fingerprint(changed)
    assert before["towns"] != after["towns"]
    assert before["rivers"] == after["rivers"]


def test_searches_that_raise_leave_their_questions_without_an_answer(make_agent, tmp_path):
    class Broken:
        def search(self, queries, k):
            raise SearchError("down")

    assert evaluate(make_agent(Broken()), tmp_path)["missing"] == 5
