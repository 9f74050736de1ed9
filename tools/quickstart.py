"""All steps on one machine without downloads: draw Shapes, pretrain its CLIP, train LSeg, test it and draw pictures.

Writes `work_dirs/quickstart/summary.json`, and pictures to `work_dirs/quickstart/pictures/`. At the end, it prints how
long each part took, on which processor and in which precision. The same command continues an interrupted quickstart.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from openvocab.command_line import children_save_first, kill_session, one_line_errors, second_stop
from openvocab.engine.stopping import Stopped
from openvocab.metrics.units import with_units
from openvocab.process.processor_cores import available_cores

ROOT = Path("work_dirs/quickstart")
PICTURES = ROOT / "pictures"
CLIP, LSEG = "work_dirs/clip_shapes", "work_dirs/lseg_shapes"
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Flags of processors on which the speed in float32 and in bfloat16 depends."""


def run(title: str, *command: str) -> float:
    """Run one of the tools as a user would, and return its seconds; stop the quickstart if it fails.

    Raises:
        Stopped: a signal came; the tool has saved and ended.
    """
    print(f"\n== {title}\n   python {' '.join(command)}", flush=True)
    started = time.time()
    code = wait_for(subprocess.Popen([sys.executable, *command], start_new_session=True))
    if code:
        sys.exit(f"quickstart stopped: `python {' '.join(command)}` ended with exit code {code}")
    print(f"   {time.time() - started:.0f} s", flush=True)
    return time.time() - started


def wait_for(tool: subprocess.Popen) -> int:
    """Return the exit code of a tool. After a signal, the tool saves and ends first; a second one ends both at once.

    Raises:
        Stopped: a signal came.
    """
    try:
        return tool.wait()
    except Stopped:
        tool.terminate()  # not SIGINT, on which a tool that is still loading shows a traceback
        with second_stop(partial(kill_session, tool)):
            tool.wait()
        raise


def train(title: str, config: str, folder: str) -> dict[str, Any]:
    """Train a config and return its row of the table.

    A training run of an earlier quickstart is continued; a finished one is used as it is.
    """
    has_begun = any(Path(folder).glob("*.pth"))
    if has_begun:
        print(f"\n{folder} holds a training run: it is continued, or used if finished; remove it to train anew")
    seconds = run(title, "tools/train.py", config, *["--resume"] * has_begun)
    from openvocab.checkpoint.checkpoint import load_checkpoint  # here: with torch, which takes seconds to import

    meta = load_checkpoint(f"{folder}/last.pth", map_location="meta")["meta"]
    return {"part": title, "seconds": seconds, "precision": meta["compute_dtype"], "threads": meta["num_threads"]}


def test(title: str, config: str, checkpoint: str, name: str, *options: str) -> tuple[dict, dict[str, Any]]:
    """Test a checkpoint and return its metrics and its row of the table."""
    out = ROOT / f"{name}.json"
    seconds = run(title, "tools/test.py", config, checkpoint, "--out", str(out), *options)
    return json.loads(out.read_text()), {"part": title, "seconds": seconds, "precision": "float32"}


def processor() -> str:
    """Return the name of the processor, the number of available cores, and its units for matrix products."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    name = facts.get("model name") or platform.processor() or platform.machine()
    units = ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "unknown"
    return f"{name}, {available_cores()} cores; units: {units}"


def table(rows: list[dict[str, Any]]) -> str:
    """Return a table of the parts with their times and precisions, and the sum."""
    width = max(len(row["part"]) for row in rows)
    lines = [
        f"{row['part']:{width}}  {row['seconds']:6.0f} s  {row.get('precision', ''):9}"
        + (f" {row['threads']} threads" if "threads" in row else "")
        for row in rows
    ]
    total = sum(row["seconds"] for row in rows)
    return "\n".join([*(line.rstrip() for line in lines), f"{'together':{width}}  {total:6.0f} s"])


def stack_pictures(paths: list[Path], out: Path) -> None:
    """Stack pictures vertically into one."""
    pictures = [Image.open(path) for path in paths]
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    sheet.save(out)


def main() -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--started", type=float, default=time.time(), help="start of the clock, seconds since the epoch"
    )
    started = parser.parse_args().started
    with one_line_errors(), children_save_first():
        run_all(started)


def run_all(started: float) -> None:
    """Run every step, then write the summary.

    Args:
        started: start of the clock, in seconds since the epoch.
    """
    ROOT.mkdir(parents=True, exist_ok=True)

    rows: list[dict[str, Any]] = [{"part": "Install", "seconds": time.time() - started}]
    title = "Draw the Shapes world"
    rows += [{"part": title, "seconds": run(title, "tools/make_shapes.py", "--root", "data/shapes")}]
    rows += [train("Pretrain its tiny CLIP on captions", "configs/clip_shapes.py", CLIP)]
    clip, row = test("Name single objects (zero-shot)", "configs/clip_shapes.py", f"{CLIP}/last.pth", "clip")
    rows += [row]
    dense, row = test("Segment without training", "configs/dense_clip_shapes.py", f"{CLIP}/last.pth", "dense_clip")
    rows += [row, train("Train LSeg on the seen classes", "configs/lseg_shapes.py", LSEG)]
    lseg, row = test(
        "Test LSeg on seen and unseen classes", "configs/lseg_shapes.py", f"{LSEG}/best.pth", "lseg",
        "--show-dir", str(PICTURES), "--show-count", "12",
    )  # fmt: skip
    rows += [row]
    stack_pictures(sorted(PICTURES.glob("*.png"))[:4], ROOT / "overview.png")

    sources = {
        "lseg_seen_miou": (lseg, "mIoU_seen"),
        "lseg_unseen_miou": (lseg, "mIoU_unseen"),
        "dense_clip_unseen_miou": (dense, "mIoU_unseen"),
        "clip_top1": (clip, "top1"),
    }
    scores = {name: results[key] for name, (results, key) in sources.items()}
    units = {name: results["protocol"]["units"][key] for name, (results, key) in sources.items()}
    summary = {
        "minutes": round((time.time() - started) / 60, 2),
        **scores,
        "units": units,
        "processor": processor(),
        "parts": [{**row, "seconds": round(row["seconds"], 1)} for row in rows],
    }
    (ROOT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    figures = {key: value for key, value in summary.items() if key not in ("parts", "units", *scores)}
    print(f"\n{with_units(scores, units)}\n{json.dumps(figures, indent=2)}")
    print(f"\n{table(rows)}\n")
    print(
        f"summary: {ROOT / 'summary.json'}\npictures: {PICTURES}, {ROOT / 'overview.png'}\ncheckpoints: {CLIP}, {LSEG}"
    )


if __name__ == "__main__":
    main()
