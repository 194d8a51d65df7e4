"""The server's end of the weight transfer `cpu_store`, over a TCP store instead of NCCL."""

from typing import Any

from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine


class StoreWeightTransferEngine(NCCLWeightTransferEngine):
    """vLLM's NCCL engine, with its two transfers replaced."""

    def init_transfer_engine(self, init_info: Any) -> None:
        """Join the trainer's store."""
        parallel = self.parallel_config
        rank = init_info.rank_offset + parallel.data_parallel_index * parallel.world_size + parallel.rank
        self.model_update_group = StatelessProcessGroup.create(
            init_info.master_address, init_info.master_port, rank, init_info.world_size
        )

    def receive_weights(self, update_info: Any) -> None:
        """Load each tensor as it comes."""
        for name in update_info.names:
            self.model.load_weights([(name, self.model_update_group.broadcast_obj(None, src=0))])
