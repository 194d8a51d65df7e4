"""A real endpoint for the tests of its clients."""

import pytest

from .endpoint_server import EndpointServer


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with EndpointServer() as server:
        yield server
