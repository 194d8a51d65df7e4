"""Results of a `FaultServer` that answers normally."""

QUERIES = [f"query {i}" for i in range(10)]


def texts(results):
    return [None if passages is None else [passage.text for passage in passages] for passages in results]


def expected(queries, k=1):
    return [[f"Passage for {query}."] * k for query in queries]
