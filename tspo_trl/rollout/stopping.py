"""[`TurnEnd`], the stopping criterion of the transformers backend. `vllm.py` needs none.

TRL calls `model.generate` without a tokenizer, so `stop_strings` in its generation config cannot work. [`TurnEnd`]
also remembers where each row ended, because generated tokens may contain the pad token and look like padding.
"""

from typing import Any

import torch
from transformers import StoppingCriteria, StopStringCriteria


class TurnEnd(StoppingCriteria):
    """
    Ends each row at a stop string or at its budget, and remembers its length.

    Args:
        stop_strings ([`~transformers.StopStringCriteria`], *optional*):
            Finds stop strings, also those that are split across tokens. `None` if there are none.
        budgets (`list[int]`):
            Maximum number of new tokens of each row.
    """

    def __init__(self, stop_strings: StopStringCriteria | None, budgets: list[int]):
        self.stop_strings = stop_strings
        self.budgets = torch.tensor(budgets)
        self._lengths = torch.zeros(len(budgets), dtype=torch.long)
        self._num_new_tokens = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        if self._num_new_tokens == 0:
            self.budgets, self._lengths = self.budgets.to(input_ids.device), self._lengths.to(input_ids.device)
        self._num_new_tokens += 1
        is_done: Any = self._num_new_tokens >= self.budgets
        if self.stop_strings is not None:
            is_done = is_done | self.stop_strings(input_ids, scores)
        self._lengths = torch.where(is_done & (self._lengths == 0), self._num_new_tokens, self._lengths)
        return is_done

    def cut(self, completion_ids: list[list[int]]) -> list[list[int]]:
        """
        Remove the padding after each row's end.

        Args:
            completion_ids (`list[list[int]]`):
                Generated ids of each row, already cut after the first end-of-sequence token.

        Returns:
            `list[list[int]]`: the sampled ids.
        """
        lengths = [length or len(ids) for length, ids in zip(self._lengths.tolist(), completion_ids, strict=True)]
        return [ids[:length] for length, ids in zip(lengths, completion_ids, strict=True)]
