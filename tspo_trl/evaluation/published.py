"""Published exact match on the seven evaluation sets, for orientation.

Search set-ups, corpora, training data and question sets differ between these results. This code measured none of them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..data.benchmarks import BENCHMARKS

NOTE = (
    "Published elsewhere, under other set-ups and with other training data, and not measured with this code. For "
    "orientation only."
)


@dataclass(frozen=True)
class PublishedResult:
    """
    One row of a published table.

    Args:
        name (`str`):
            Method and model.
        source (`str`):
            Publication.
        exact_match (`tuple[float, ...]`):
            Exact match on the seven sets, in the order of [`~tspo_trl.data.BENCHMARKS`].
        average (`float`):
            Published average over the seven sets.
    """

    name: str
    source: str
    exact_match: tuple[float, ...]
    average: float


_SEARCH_R1 = "Search-R1, arXiv 2503.09516"

PUBLISHED = (
    PublishedResult("Search-R1 3B base, GRPO", _SEARCH_R1, (0.421, 0.583, 0.413, 0.297, 0.274, 0.066, 0.128), 0.312),
    PublishedResult(
        "Search-R1 3B instruct, GRPO", _SEARCH_R1, (0.397, 0.565, 0.391, 0.331, 0.310, 0.124, 0.232), 0.336
    ),
    PublishedResult("Search-R1 7B base, PPO", _SEARCH_R1, (0.480, 0.638, 0.457, 0.433, 0.382, 0.196, 0.432), 0.431),
    PublishedResult(
        "Search-R1 7B instruct, GRPO", _SEARCH_R1, (0.429, 0.623, 0.427, 0.386, 0.346, 0.162, 0.400), 0.396
    ),
    PublishedResult(
        "StepSearch 7B",
        "StepSearch (arXiv 2505.15107), as quoted by later work",
        (0.364, 0.565, 0.390, 0.346, 0.394, 0.183, 0.444),
        0.382,
    ),
    PublishedResult(
        "ZeroSearch 7B instruct",
        "ZeroSearch, arXiv 2505.04588",
        (0.436, 0.652, 0.488, 0.346, 0.352, 0.184, 0.278),
        0.391,
    ),
    PublishedResult(
        "Tree-GRPO 3B base", "Tree-GRPO, arXiv 2509.21240", (0.468, 0.597, 0.436, 0.424, 0.437, 0.178, 0.432), 0.425
    ),
    PublishedResult(
        "SkyRL plain GRPO 3B instruct, 3 turns",
        "SkyRL's documentation, example Search-R1",
        (0.449, 0.616, 0.444, 0.417, 0.396, 0.179, 0.448),
        0.421,
    ),
)


def published_rows(evaluated: Collection[str]) -> list[dict[str, Any]]:
    """
    Return the published results on the evaluated datasets.

    Args:
        evaluated (collection of `str`):
            Names of the evaluated datasets.

    Returns:
        `list[dict]`: results with `name`, `source`, `exact_match` by dataset, and `average`. The average is over the
        seven sets, and `None` unless all seven were evaluated. The list is empty if none of the seven was evaluated.
    """
    shown = [name for name in BENCHMARKS if name in evaluated]
    if not shown:
        return []
    is_complete = len(shown) == len(BENCHMARKS)
    return [
        {
            "name": result.name,
            "source": result.source,
            "exact_match": {
                name: value for name, value in zip(BENCHMARKS, result.exact_match, strict=True) if name in shown
            },
            "average": result.average if is_complete else None,
        }
        for result in PUBLISHED
    ]
