"""Ends turns at stop strings on the transformers generation path.

TRL calls `model.generate` without a tokenizer, so `stop_strings` in its generation config cannot work there. The
stopping criterion here is handed to the same call, and remembers where each row ended: afterwards a row is padded, and
padding cannot be told from what the model wrote when the pad token is a token that models write.
"""

from typing import Any

import torch
from transformers import StoppingCriteria, StopStringCriteria


class TurnEnd(StoppingCriteria):
    """
    Ends each row at a stop string or at its own budget, and remembers its length.

    Args:
        stop_strings ([`~transformers.StopStringCriteria`], *optional*):
            Recognises stop strings, also those that are split across tokens; `None` where there are none.
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
        Remove the padding behind each row's end.

        Args:
            completion_ids (`list[list[int]]`):
                Generated ids of each row, already cut behind the first end-of-sequence token.

        Returns:
            `list[list[int]]`: what the model sampled.
        """
        lengths = [length or len(ids) for length, ids in zip(self._lengths.tolist(), completion_ids, strict=True)]
        return [ids[:length] for length, ids in zip(lengths, completion_ids, strict=True)]
