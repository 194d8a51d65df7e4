"""Greedy turns of a vLLM engine in this process."""

from collections.abc import Sequence
from typing import Any

from ..rollout.greedy import greedy_sampling


class EngineTurns:
    """
    Generator of greedy turns with vLLM.

    Args:
        engine (`vllm.LLM`):
            Engine of the model.
        stop_strings (sequence of `str`):
            Strings that end a turn.
    """

    def __init__(self, engine: Any, stop_strings: Sequence[str]):
        self.engine = engine
        self.stop_strings = list(stop_strings)

    def __call__(self, prompt_ids: list[list[int]], max_new_tokens: list[int]) -> tuple[list[list[int]], None]:
        from vllm import SamplingParams

        params = [
            SamplingParams(
                **greedy_sampling(),
                max_tokens=budget,
                stop=self.stop_strings,
                include_stop_str_in_output=True,
                # vLLM searches stop strings in the decoded text, and a tag may be a special token.
                skip_special_tokens=False,
            )
            for budget in max_new_tokens
        ]
        outputs = self.engine.generate([{"prompt_token_ids": ids} for ids in prompt_ids], params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs], None
