"""What is found of GPUs in trees of files like those of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.wire.problems import GpuMissing
from grid.worker.gpus import Device, Found, Gpu, chosen, here, look


@pytest.fixture
def torch(tmp_path: Path) -> Path:
    """A torch that was built with CUDA."""
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    (tmp_path / "torch" / "lib" / "libtorch_cuda.so").touch()
    return tmp_path / "torch"


def machine(root: Path, *nodes: str, models: tuple[str, ...] = ()) -> Path:
    """A tree with these device files and these GPUs known to the driver."""
    (root / "dev").mkdir(parents=True)
    for node in ("null", "nvidiactl", "nvidia-uvm", "nvidia-modeset", *nodes):
        (root / "dev" / node).touch()
    for place, model in enumerate(models):
        folder = root / "proc/driver/nvidia/gpus" / f"0000:0{place}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 41\nGPU UUID: \t GPU-1\n")
    return root


def test_each_device_file_is_a_gpu_and_the_driver_names_it(tmp_path: Path, torch: Path) -> None:
    root = machine(tmp_path / "root", "nvidia0", "nvidia1", models=("NVIDIA H200", "NVIDIA L4"))

    assert look(root, {}, torch).gpus == (Gpu("0", "NVIDIA H200"), Gpu("1", "NVIDIA L4"))
    assert str(look(root, {}, torch).gpus[0]) == "cuda:0 (NVIDIA H200)"


def test_a_container_without_the_drivers_folder_still_has_its_gpu(tmp_path: Path, torch: Path) -> None:
    assert look(machine(tmp_path / "root", "nvidia3"), {}, torch).gpus == (Gpu("0"),)


def test_a_container_that_holds_one_of_two_kinds_does_not_guess_which(tmp_path: Path, torch: Path) -> None:
    mixed = machine(tmp_path / "mixed", "nvidia1", models=("NVIDIA H200", "NVIDIA L4"))
    alike = machine(tmp_path / "alike", "nvidia1", models=("NVIDIA L4", "NVIDIA L4"))

    assert look(mixed, {}, torch).gpus == (Gpu("0"),)
    assert look(alike, {}, torch).gpus == (Gpu("0", "NVIDIA L4"),)


def test_a_driver_whose_device_files_are_made_at_first_use_counts(tmp_path: Path, torch: Path) -> None:
    assert len(look(machine(tmp_path / "root", models=("NVIDIA L4",) * 3), {}, torch).gpus) == 3


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("1", ["1"]),
        ("2,0", ["2", "0"]),
        ("0,0", ["0"]),
        ("0,7,1", ["0"]),  # CUDA stops at the first that is none
        ("GPU-90f9dcd8,1", ["GPU-90f9dcd8", "1"]),
        ("", []),
        ("-1", []),
        ("none", []),
    ],
)
def test_what_the_environment_hides_is_not_used(tmp_path: Path, torch: Path, visible: str, ids: list[str]) -> None:
    root = machine(tmp_path / "root", "nvidia0", "nvidia1", "nvidia2")
    found = look(root, {"CUDA_VISIBLE_DEVICES": visible}, torch)

    assert [gpu.id for gpu in found.gpus] == ids
    assert bool(found.why) is not bool(ids)


def test_it_says_why_there_is_none(tmp_path: Path, torch: Path) -> None:
    root, plain = machine(tmp_path / "root"), tmp_path / "plain"
    plain.mkdir()

    assert "no NVIDIA driver" in look(root, {}, torch).why
    assert "no NVIDIA driver" in look(tmp_path / "nothing at all", {}, torch).why
    assert "built without CUDA" in look(root, {}, plain).why
    assert "not installed" in look(root, {}, None).why


def test_gpus_that_are_demanded_and_missing_are_refused_with_the_reason() -> None:
    with pytest.raises(GpuMissing, match="told to compute on a GPU, and torch is not installed"):
        chosen(Device.CUDA, Found(why="torch is not installed"))


def test_what_is_found_is_used_unless_the_owner_says_no() -> None:
    found = Found((Gpu("0"),))

    assert chosen(Device.AUTO, found) == chosen(Device.CUDA, found) == found.gpus
    assert chosen(Device.CPU, found) == chosen(Device.AUTO, Found(why="none")) == ()


def test_this_machine_has_gpus_or_a_reason() -> None:
    found = here({})

    assert bool(found.gpus) is not bool(found.why)
