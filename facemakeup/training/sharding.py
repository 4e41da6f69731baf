"""FSDP2 as an option: trainables, gradients and optimiser state sharded over the ranks; frozen weights are copied.

Most of what is trained is PoseNet. With DDP every rank holds all of it, which is right for 24 GiB and more; sharding
is for smaller cards and many ranks.
"""

from typing import Any

import torch
from torch import Tensor, nn

from facemakeup.model.facemakeup import FaceMakeUp


def shard(model: FaceMakeUp) -> None:
    """Shard the trainables of a model in place over all ranks."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    frozen = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    for part in (model.posenet, model.projector, model):
        fully_shard(part, ignored_params=frozen)
    register_fsdp_forward_method(model, "predict")  # pictures are drawn by it, past the hooks of `forward`


def reshard(model: nn.Module) -> None:
    """Let go of whole copies of the shards, which a forward pass without a backward one leaves behind.

    Whoever changes the shards meanwhile would go unheard: the next pass would still take the copies.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def synchronise(model: Any, is_last: bool) -> None:
    """Say whether the next backward pass is the last of a step, after which gradients are summed over the ranks."""
    model.set_requires_gradient_sync(is_last)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with all its shards; every rank must call it."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """Return a copy of a whole tensor, placed and sharded as a parameter is."""
    placed = torch.zeros_like(parameter, requires_grad=False)
    copy_into(placed, value)
    return placed


@torch.no_grad()
def copy_into(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(target, DTensor):
        target.copy_(distribute_tensor(value.to(target.device), target.device_mesh, target.placements))
    else:
        target.copy_(value)
