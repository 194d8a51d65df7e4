"""Training with a real server process: the same run as with a local index, and a run that survives its server."""

import math

import pytest
import torch
from transformers import TrainerCallback

from tspo_trl.search import CachedRetriever, RemoteRetriever

from ..serving import serving


@pytest.fixture(scope="module")
def remote(index_path):
    """Client of a server that most tests share."""
    with serving("--index", index_path) as (_, url), RemoteRetriever(url) as client:
        yield client


def test_a_served_index_trains_the_same_model_as_the_index_itself(make_trainer, remote):
    local = make_trainer()
    local.train()
    served = make_trainer(trainer_kwargs={"retriever": remote})
    served.train()
    pairs = zip(local.model.parameters(), served.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_client_and_cache_count_is_logged(make_trainer, remote):
    trainer = make_trainer(trainer_kwargs={"retriever": CachedRetriever(remote)}, max_steps=3)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "search/queries" in entry]
    assert len(logs) == 3
    assert sum(entry["search/cache_misses"] for entry in logs) >= 1
    # The model of the tests knows two queries, so the cache has answered the last step.
    assert logs[-1]["search/cache_hit_rate"] == 1.0
    assert logs[-1]["search/requests"] == 0
    for entry in logs:
        assert entry["search/cache_hits"] + entry["search/cache_misses"] == entry["search/sent"]


def test_a_run_survives_the_death_of_its_server(make_trainer, index_path):
    with serving("--index", index_path) as (process, url):
        remote = RemoteRetriever(url, timeout=2.0, max_retries=1, backoff=0.01, set_aside=0.0)

        class KillServer(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                process.kill()
                process.wait()

        with remote:
            trainer = make_trainer(
                trainer_kwargs={"retriever": remote, "callbacks": [KillServer()]}, max_steps=3, save_strategy="no"
            )
            trainer.train()
    first, *later = [entry for entry in trainer.state.log_history if "search/queries" in entry]
    assert len(later) == 2
    assert first["search/failed"] == 0
    for entry in later:
        assert entry["search/failed"] == entry["search/queries"] > 0
        assert entry["rollout/end/search_failed"] == pytest.approx(entry["search/queries"] / 16)
    assert all(math.isfinite(p.sum().item()) for p in trainer.model.parameters())
