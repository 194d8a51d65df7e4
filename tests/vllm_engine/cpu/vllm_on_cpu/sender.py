"""The trainer's end of the weight transfer `cpu_store`. TRL's client supports only NCCL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from trl.generation.vllm_client import VLLMClient
from vllm.distributed.utils import StatelessProcessGroup


class StoreVLLMClient(VLLMClient):
    """TRL's client, with its weight transfer replaced. All requests are TRL's."""

    def init_communicator(self, device: torch.device | str | int = 0) -> None:
        """Open the store and let the server join it. Blocks until both are connected."""
        world_size = self.get_world_size() + 1
        init_info = {
            "master_address": "127.0.0.1",
            "master_port": self.group_port,
            "rank_offset": 1,
            "world_size": world_size,
        }
        with ThreadPoolExecutor(1) as executor:
            answer = executor.submit(
                self._post, f"{self.base_url}/init_weight_transfer_engine", json={"init_info": init_info}
            )
            self.communicator = StatelessProcessGroup.create("127.0.0.1", self.group_port, 0, world_size)
            answer.result()

    def update_named_params(
        self, metadata: list[tuple[str, str, list[int]]], named_params: Iterator[tuple[str, torch.Tensor]]
    ) -> None:
        """Announce the tensors, then send them in the same order."""
        names, dtype_names, shapes = (list(column) for column in zip(*metadata, strict=True))
        update_info = {"names": names, "dtype_names": dtype_names, "shapes": shapes}
        self._start_weight_update()
        with ThreadPoolExecutor(1) as executor:
            answer = executor.submit(self._post, f"{self.base_url}/update_weights", json={"update_info": update_info})
            for _, parameter in named_params:
                self.communicator.broadcast_obj(parameter.detach().cpu().contiguous(), src=0)
            answer.result()
        self._finish_weight_update()

    def close_communicator(self) -> None:
        """Leave the store."""
        self.communicator = None
