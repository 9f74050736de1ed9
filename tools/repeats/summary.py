"""Mean and spread over the seeds of one config, as plain values and as a table."""

import json
import statistics
from collections.abc import Sequence
from typing import Any

from repeats.seed_run import SeedRun, read_record


def summarize(runs: Sequence[SeedRun]) -> dict[str, Any]:
    """Return the metrics of finished runs as plain values.

    Returns:
        `metrics[name]`: `mean`, `sd` (with n - 1; None for one seed) and `values` in the order of `seeds`. A metric
        that is not a number for some seed has neither mean nor sd. `train_seconds`: None for a run that was resumed.
    """
    results = [json.loads(run.metrics_file.read_text(encoding="utf-8")) for run in runs]
    records = [read_record(run.folder) for run in runs]
    names = [name for name in results[0] if name not in ("per_class", "protocol")]
    return {
        "config": runs[0].config,
        "checkpoint": runs[0].checkpoint,
        "seeds": [run.seed for run in runs],
        "metrics": {name: spread([result.get(name) for result in results]) for name in names},
        "train_seconds": [record["train"]["seconds"] for record in records],
        "machines": _distinct([record["machine"] for record in records]),
        "settings": [record["settings"] for record in records],
        "protocol": results[0].get("protocol"),
    }


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Return mean and standard deviation (n - 1) of one metric."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return {"mean": None, "sd": None, "values": list(values)}
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "sd": sd, "values": list(values)}


def markdown_table(summary: dict[str, Any]) -> str:
    """Return the table of all metrics, followed by a line on time, precision and machine."""
    titles = ["metric", "mean", "sd", *(f"seed {seed}" for seed in summary["seeds"])]
    rows = [titles, ["---"] * len(titles)]
    units = (summary.get("protocol") or {}).get("units", {})  # none in files of older versions
    for name, entry in summary["metrics"].items():
        title = f"{name} ({units[name]})" if name in units else name
        rows.append([title, *map(_figure, (entry["mean"], entry["sd"], *entry["values"]))])
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + ["", *_remarks(summary)])


def _remarks(summary: dict[str, Any]) -> list[str]:
    checkpoint = f"{summary['config']}, {summary['checkpoint']}.pth of each seed"
    known = [seconds for seconds in summary["train_seconds"] if seconds is not None]
    time = f"{minutes(statistics.fmean(known))} min per run" if known else "unknown, the runs were interrupted"
    machines = "; ".join(
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, {machine['precision']}"
        for machine in summary["machines"]
    )
    return [f"{checkpoint}. Training: {time}. {machines}."]


def minutes(seconds: float) -> str:
    """Return "4:05"."""
    total = round(seconds)
    return f"{total // 60}:{total % 60:02d}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _distinct(entries: Sequence[Any]) -> list[Any]:
    return [entry for index, entry in enumerate(entries) if entry not in entries[:index]]
