"""What training asks of the device it runs on: random numbers, room for a dataset, words for a failure."""

from __future__ import annotations

from collections.abc import Iterable

import torch

CPU = torch.device("cpu")

SHARE_FOR_DATA = 8
"""A dataset goes to the device whole if so many like it would fit into what is free there."""

OF_THE_DEVICE = ("CUDA", "cuDNN", "CUBLAS", "cublas", "NVRTC", "nvrtc")


def generators(device: torch.device) -> list[torch.Generator]:
    """Whatever draws random numbers for tensors of that device."""
    if device == CPU:
        return [torch.default_generator]
    return [torch.default_generator, torch.cuda.default_generators[torch.cuda.current_device()]]


def room_for(tensors: Iterable[torch.Tensor], device: torch.device) -> bool:
    """Whether these shall lie on the device as a whole."""
    if device == CPU:
        return True
    free, _ = torch.cuda.mem_get_info()
    return sum(tensor.nbytes for tensor in tensors) * SHARE_FOR_DATA <= free


def words(error: Exception) -> str:
    """What failed on a GPU. Messages of CUDA name no values; of others, which may, only the type is told."""
    if isinstance(error, torch.OutOfMemoryError):
        return "the memory of the GPU that one job may use is not enough"
    first = str(error).strip().partition("\n")[0]
    if first.startswith(OF_THE_DEVICE):
        return first[:200]
    return f"{type(error).__name__} on the GPU"
