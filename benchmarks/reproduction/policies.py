"""Start policies. Each is made once in a work folder and used for every variant and seed."""

import hashlib
import random
from pathlib import Path

from filelock import FileLock
from transformers import AutoModelForCausalLM

from tspo_trl.data import searchworld_tokenizer
from tspo_trl.quickstart.policy import make_policy
from tspo_trl.quickstart.warm_start import RIGHT, imitate
from tspo_trl.search import BM25Retriever, build_index

from .regimes import REGIMES
from .worlds import WORLDS

_SEED = 0


def open_retriever(world_name: str, work: Path) -> BM25Retriever:
    """Open the index of a world. It is built if it is missing."""
    folder = work / world_name
    with _only_one(folder):
        if not (folder / "index").exists():
            if not (folder / "world").exists():
                WORLDS[world_name].make().save(folder / "world")
            build_index(folder / "world" / "corpus.jsonl", folder / "index")
    return BM25Retriever(folder / "index")


def open_policy(regime_name: str, retriever: BM25Retriever, work: Path) -> Path:
    """Return the folder of a regime's start policy. The policy is trained if it is missing."""
    policy = work / regime_name / "policy"
    with _only_one(policy.parent):
        if not policy.exists():
            regime = REGIMES[regime_name]
            right = _open_right_policy(regime.world, retriever, work)
            _train(regime.world, right, policy, retriever, regime.habits, regime.habit_steps, 2e-3)
    return policy


def weights_digest(policy: Path) -> str:
    """SHA-256 of a policy's weights."""
    return hashlib.sha256((policy / "model.safetensors").read_bytes()).hexdigest()


def _open_right_policy(world_name: str, retriever: BM25Retriever, work: Path) -> Path:
    """Return the folder of a policy that has seen only right demonstrations."""
    policy = work / world_name / "policy"
    with _only_one(policy.parent):
        if not policy.exists():
            world = WORLDS[world_name]
            untrained = policy.with_name("untrained")
            tokenizer = searchworld_tokenizer(world.relations)
            make_policy(tokenizer, max_length=world.max_length, seed=_SEED).save_pretrained(untrained)
            _train(world_name, untrained, policy, retriever, RIGHT, world.right_steps, 3e-3)
    return policy


def _train(
    world_name: str,
    start: Path,
    output: Path,
    retriever: BM25Retriever,
    habits: dict[str, float],
    steps: int,
    learning_rate: float,
) -> None:
    world = WORLDS[world_name]
    tokenizer = searchworld_tokenizer(world.relations)
    model = AutoModelForCausalLM.from_pretrained(start)
    imitate(
        model,
        tokenizer,
        world.make(),
        retriever,
        habits,
        random.Random(_SEED),
        steps=steps,
        learning_rate=learning_rate,
        seed=_SEED,
        top_k=world.limits["search_top_k"],
        max_turns=world.limits["max_turns"],
    )
    unfinished = output.with_name(output.name + ".part")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(output)


def _only_one(folder: Path) -> FileLock:
    """Lock a folder, so that processes that start together make its contents once."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")
