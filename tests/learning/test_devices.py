"""What training asks of its device, as far as a processor can tell; the rest is `tests/worker/test_on_a_gpu.py`."""

from __future__ import annotations

import pytest
import torch

from grid.learning import cuda
from grid.learning.devices import CPU, generators, room_for, words
from grid.wire.problems import GpuFailed


def test_words_of_cuda_are_told_and_others_are_not() -> None:
    assert words(RuntimeError("CUDA error: device-side assert triggered\nCompile with ...")) == (
        "CUDA error: device-side assert triggered"
    )
    assert words(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")) == "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"
    assert words(IndexError("index 93 is out of bounds")) == "IndexError on the GPU"
    assert words(torch.OutOfMemoryError("CUDA out of memory.")).startswith("the memory of the GPU")


def test_a_processor_has_one_generator_and_room_for_all_it_holds() -> None:
    assert generators(CPU) == [torch.default_generator]
    assert room_for([torch.zeros(1000)], CPU)


@pytest.mark.skipif(cuda.built(), reason="this torch can use CUDA")
def test_a_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (cuda.VISIBLE, *cuda.SETTINGS):
        monkeypatch.setenv(name, "")  # and so restores it

    with pytest.raises(GpuFailed):
        cuda.begin("0", 0.5)


@pytest.mark.skipif(cuda.built(), reason="CUDA would be hidden from all tests after it")
def test_a_process_that_does_without_sees_no_gpu_and_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cuda.VISIBLE, "0")
    cuda.do_without()

    assert not torch.cuda.is_available()
