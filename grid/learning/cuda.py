"""Opens one GPU for one process: everything that CUDA opens, loads or starts, before a sandbox closes round it.

Call after a fork: a process that has used CUDA, or counted GPUs, cannot fork one that does. torch counts them where it
first computes a gradient.
"""

# ruff: noqa: SLF001  torch's public switch for determinism imports its compiler

from __future__ import annotations

import os

import torch
from torch.nn import functional

from grid.learning import training
from grid.learning.devices import words
from grid.wire.problems import GpuFailed

SETTINGS = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic with a workspace of a fixed size
    "CUDA_CACHE_DISABLE": "1",  # no kernels of one run on disk for another
    "USE_PYTORCH_KERNEL_CACHE": "0",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # numbers of GPUs as the driver counts them
}
VISIBLE = "CUDA_VISIBLE_DEVICES"


def built() -> bool:
    """Whether this torch can use CUDA at all. Looks for no GPU."""
    return torch.backends.cuda.is_built()  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


def do_without() -> None:
    """Be a process that has no GPU, for good, and warm up."""
    os.environ[VISIBLE] = ""
    training.warm_up()


def begin(gpu: str, share: float) -> None:
    """Use that GPU, as `CUDA_VISIBLE_DEVICES` calls it, and of its memory at most a `share` (0 to 1) for tensors.

    Kernels are the deterministic ones where there are such, and multiply float32 as float32 (no TF32).

    Raises:
        GpuFailed: says why it cannot be used.
    """
    os.environ |= {VISIBLE: gpu, **SETTINGS}
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.set_per_process_memory_fraction(share)
        torch._C._set_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        training.warm_up("cuda")
        _load_libraries()
        torch.cuda.synchronize()
    except (RuntimeError, AssertionError) as error:
        raise GpuFailed(words(error)) from None


def _load_libraries() -> None:
    """cuDNN loads its parts at first use: convolutions, normalisations and recurrent layers have each their own."""
    images = torch.rand(8, 4, 8, 8, device="cuda", requires_grad=True)
    kernel = torch.rand(4, 4, 3, 3, device="cuda", requires_grad=True)
    scale = torch.ones(4, device="cuda", requires_grad=True)
    seen = functional.conv_transpose2d(functional.conv2d(images, kernel), kernel)
    normal = functional.batch_norm(seen, None, None, scale, scale, training=True)
    layer = torch.nn.LSTM(8, 8, num_layers=2, dropout=0.1, device="cuda")
    said, _ = layer(normal.flatten(0, 1).transpose(0, 1))
    read = functional.scaled_dot_product_attention(*[said.transpose(0, 1).unsqueeze(0)] * 3)
    torch.autograd.grad(read.square().sum(), [images, kernel, scale, *layer.parameters()])
