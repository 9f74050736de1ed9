"""The printed table, and the same figures as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openvocab.files.atomic_files import replacing

COLUMNS = (
    ("row", "name", "<34", ""),
    ("peer ms", "peer_ms", ">10", ".1f"),
    ("ours ms", "ours_ms", ">10", ".1f"),
    ("ratio", "ratio", ">7", ".3f"),
    ("goal", "goal", ">6", ".2f"),
    ("peer MB", "peer_mb", ">8", ".0f"),
    ("ours MB", "ours_mb", ">8", ".0f"),
    ("error", "max_error", ">9", ".1e"),
    ("of peak", "share_of_peak", ">7", ".0%"),
)
"""Title, key, alignment and format of each column."""


def machine_lines(machine: dict[str, Any]) -> str:
    """Return the description of the machine that the figures were measured on."""
    peaks = machine["peak_gflops"]
    gpu = ""
    if machine.get("device") == "cuda":
        tf32 = "on" if machine["cudnn_tf32"] else "off"
        gpu = f"{machine['gpu']}, driver {machine['driver']}, CUDA {machine['cuda']}, cuDNN {machine['cudnn']} "
        gpu += f"(TF32 of convolutions {tf32})\n"
    return (
        f"{gpu}{machine['cpu']} (torch {machine['capability']}, oneDNN up to {machine['onednn_isa']}), "
        f"{machine['threads']} threads, torch {machine['torch']}\n"
        f"matrix products, GFLOP/s: float32 {peaks['float32']:.0f}, float32 medium {peaks['float32_medium']:.0f} "
        f"(error {machine['error_of_medium']:.1e}; ours uses {machine['fast_matmul']}), "
        f"bfloat16 {peaks['bfloat16']:.0f}"
    )


def header() -> str:
    """Return the titles of the columns."""
    return "  ".join(f"{title:{alignment}}" for title, _, alignment, _ in COLUMNS)


def table_line(result: dict[str, Any]) -> str:
    """Return a line of the table, with its goals and its note below."""
    cells = (f"{_text(result[key], form):{alignment}}" for _, key, alignment, form in COLUMNS)
    line = "  ".join(cells).rstrip()
    remarks = [verdict(result), result["note"]]
    return "\n".join([line, *(f"    {remark}" for remark in remarks if remark)])


def verdict(result: dict[str, Any]) -> str:
    """Return, for every goal of a row, whether it is met."""
    upper_bounds = [
        ("time", result["ratio"], result["goal"], ""),
        ("memory", result["memory_ratio"], result["memory_goal"], ""),
        ("time", result["ours_ms"], result["goal_ms"], " ms"),
    ]
    verdicts = [
        f"{what} {value:.3g}{unit}: {'met' if value <= bound else 'MISSED'} (<= {bound:g}{unit})"
        for what, value, bound, unit in upper_bounds
        if value is not None and bound is not None
    ]
    fraction, least = result["share_of_peak"], result["peak_goal"]
    if fraction is not None and least is not None:
        verdicts.append(
            f"share of the peak {fraction:.0%}: {'met' if fraction >= least else 'MISSED'} (>= {least:.0%})"
        )
    return ", ".join(verdicts)


def write_json(path: str | Path, machine: dict[str, Any], results: Sequence[dict[str, Any]]) -> None:
    """Write `{"machine": ..., "rows": [...]}`, completely or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(json.dumps({"machine": machine, "rows": list(results)}, indent=2) + "\n")


def _text(value: Any, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
