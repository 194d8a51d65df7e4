"""`tspo-trl search`: the feedback that the model would receive."""

from tspo_trl.cli.main import main

from ..search.fault_server import FaultServer


def test_prints_the_feedback_as_the_model_sees_it(index_path, capsys):
    assert main(["search", "--index", str(index_path), "--top-k", "1", "capital of France"]) == 0
    assert capsys.readouterr().out == (
        '<information>Doc 1(Title: "Paris") Paris is the capital of France. It lies on the Seine.</information>\n'
    )


def test_ids_and_scores_come_first_when_asked_for(index_path, retriever, capsys):
    assert main(["search", "--index", str(index_path), "--top-k", "1", "--scores", "Tiber"]) == 0
    [[passage]] = retriever.search(["Tiber"], 1)
    assert capsys.readouterr().out.splitlines()[0] == f"1\t{passage.id}\t{passage.score:.4f}"


def test_every_query_has_its_feedback(index_path, capsys):
    assert main(["search", "--index", str(index_path), "--top-k", "1", "Spree", "nothing of the kind"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "Berlin" in first
    assert second == "<information></information>"


def test_a_server_can_be_searched(capsys):
    server = FaultServer()
    try:
        assert main(["search", "--top-k", "1", "--retriever-url", server.url, "capital of France"]) == 0
    finally:
        server.kill()
    assert "Passage for capital of France." in capsys.readouterr().out


def test_without_anything_to_search_the_remedy_is_named(capsys):
    assert main(["search", "Seine"]) == 2
    assert capsys.readouterr().err == "error: There is nothing to search. Pass `index`, `dense` or `retriever_url`.\n"
