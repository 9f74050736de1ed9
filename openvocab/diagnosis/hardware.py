"""Devices, memory, instructions and threads, and whether bfloat16 is faster."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from openvocab.diagnosis.facts import Fact
from openvocab.process.processor_cores import CHOICE, available_cores, visible_cores

GB = 1e9
INSTRUCTIONS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16",
    "asimd", "sve", "bf16",
)  # fmt: skip
"""Those that decide how fast matrix products are, as Linux names them."""
_CUDA_TORCH = "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cu126"


def device_facts() -> Iterator[Fact]:
    """Yield the device that models run on by default, its memory, and whether bfloat16 is faster on it."""
    import torch

    from openvocab.process.bfloat16_probe import bfloat16_gain

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            yield Fact(
                f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {_gigabytes(free)} of {_gigabytes(total)} free"
            )
    else:
        yield _without_cuda(torch.version.cuda)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    gain = bfloat16_gain(device)
    choice = (
        "faster: --amp bf16 in training" if gain.faster_dtype == torch.bfloat16 else "not faster: float32 is better"
    )
    figures = f"products {gain.products:.2f} times, convolutions {gain.convolutions:.2f} times as fast as in float32"
    yield Fact("bfloat16", f"{choice} ({figures} on {device})")


def _without_cuda(built_for: str | None) -> Fact:
    """Return the device of a torch that finds no GPU; a fault if the machine has one."""
    if shutil.which("nvidia-smi") is None:
        return Fact("device", "cpu (no NVIDIA GPU)")
    if built_for is None:
        return Fact("device", "cpu, although there is an NVIDIA driver: this torch is built without CUDA", _CUDA_TORCH)
    value = f"cpu, although there is an NVIDIA driver: torch for CUDA {built_for} finds no device"
    return Fact(
        "device", value, "nvidia-smi (the driver has to support that CUDA version, and CUDA_VISIBLE_DEVICES a device)"
    )


def processor_facts() -> Iterator[Fact]:
    """Yield the processor, its cores, memory, and the number of threads of this command."""
    name, flags = _processor()
    yield Fact(
        "processor", f"{name}, {', '.join(flag for flag in INSTRUCTIONS if flag in flags) or 'unknown instructions'}"
    )
    granted, visible = available_cores(), visible_cores()
    yield Fact("cores", str(granted) if granted == visible else f"{granted} granted, {visible} visible")
    yield _threads(granted)
    total, free = _memory()
    if total:
        yield Fact("memory", f"{_gigabytes(free)} of {_gigabytes(total)} free")


def _threads(granted: int) -> Fact:
    """Return the number of threads: chosen by the commands, or by the user."""
    text, reason = os.environ.get("OMP_NUM_THREADS", ""), os.environ.get(CHOICE)
    if reason is not None:
        return Fact("threads", f"{text}, chosen by openvocab ({reason})")
    if not text:
        return Fact("threads", "OMP_NUM_THREADS is not set")
    counts = text.split(",")  # one number per level of nesting
    if not all(count.strip().isdigit() and int(count) > 0 for count in counts):
        return Fact("threads", f"OMP_NUM_THREADS={text} is no number", "unset OMP_NUM_THREADS")
    value = f"{text}, by OMP_NUM_THREADS"
    if int(counts[0]) > granted:
        return Fact(
            "threads", f"{value}: more than cores, which is several times slower", f"export OMP_NUM_THREADS={granted}"
        )
    return Fact("threads", value)


def _processor() -> tuple[str, set[str]]:
    """Return the name of the processor and its flags, as Linux states them."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return "unknown processor", set()
    stated = {key.strip(): value.strip() for key, _, value in lines}
    return stated.get("model name", "processor"), {*(stated.get("flags") or stated.get("Features") or "").split()}


def _memory() -> tuple[float, float]:
    """Return total and available memory in bytes; zeros if the system does not state it."""
    try:
        lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    except OSError:
        return 0.0, 0.0
    stated = {words[0].rstrip(":"): float(words[1]) * 1024 for words in lines if len(words) > 1}
    return stated.get("MemTotal", 0.0), stated.get("MemAvailable", 0.0)


def _gigabytes(size: float) -> str:
    return f"{size / GB:.1f} GB"
