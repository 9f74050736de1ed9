"""The whole path on one machine without downloads: draw Shapes, pretrain its CLIP, train LSeg, test, show.

Writes `work_dirs/quickstart/summary.json` and pictures under `work_dirs/quickstart/pictures/`. Its end says how long
each part took, on which processor and in which precision. The same command continues a quickstart that was interrupted.
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

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.command_line import children_save_first, kill_session, one_line_errors, second_stop
from openvocab.engine.stopping import Stopped
from openvocab.metrics.units import with_units
from openvocab.process.processor_cores import available_cores

ROOT = Path("work_dirs/quickstart")
PICTURES = ROOT / "pictures"
CLIP, LSEG = "work_dirs/clip_shapes", "work_dirs/lseg_shapes"
UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Flags of a processor that decide how fast it computes in float32 and in bfloat16."""


def run(title: str, *command: str) -> float:
    """Run one of the tools as a user would and return its seconds; stop the quickstart where it fails.

    Raises:
        Stopped: by a signal, after the tool has saved and ended.
    """
    print(f"\n== {title}\n   python {' '.join(command)}", flush=True)
    started = time.time()
    code = wait_for(subprocess.Popen([sys.executable, *command], start_new_session=True))
    if code:
        sys.exit(f"quickstart stopped: `python {' '.join(command)}` ended with exit code {code}")
    print(f"   {time.time() - started:.0f} s", flush=True)
    return time.time() - started


def wait_for(tool: subprocess.Popen) -> int:
    """Return the exit code of a tool. After a signal it saves and ends first; a second one ends both at once.

    Raises:
        Stopped: by a signal.
    """
    try:
        return tool.wait()
    except Stopped:
        tool.terminate()  # Ctrl-C too reaches this process alone; on a SIGINT, one that still loads shows a traceback
        with second_stop(partial(kill_session, tool)):
            tool.wait()
        raise


def train(title: str, config: str, folder: str) -> dict[str, Any]:
    """Train a config and return its row of the table.

    What an earlier quickstart began is continued; a training that is finished is used as it is.
    """
    begun = any(Path(folder).glob("*.pth"))
    if begun:
        print(f"\n{folder} holds a training: it is continued, or used where it is finished; remove it to train anew")
    seconds = run(title, "tools/train.py", config, *["--resume"] * begun)
    meta = load_checkpoint(f"{folder}/last.pth", map_location="meta")["meta"]
    return {"part": title, "seconds": seconds, "precision": meta["compute_dtype"], "threads": meta["num_threads"]}


def test(title: str, config: str, checkpoint: str, name: str, *options: str) -> tuple[dict, dict[str, Any]]:
    """Test a checkpoint and return its metrics and its row of the table."""
    out = ROOT / f"{name}.json"
    seconds = run(title, "tools/test.py", config, checkpoint, "--out", str(out), *options)
    return json.loads(out.read_text()), {"part": title, "seconds": seconds, "precision": "float32"}


def processor() -> str:
    """Return the name of the processor, the cores that are ours, and its units for matrix products."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    name = facts.get("model name") or platform.processor() or platform.machine()
    units = ", ".join(unit for unit in UNITS if unit in flags) or "unknown"
    return f"{name}, {available_cores()} cores; units: {units}"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the parts with their times and precisions, a line each, and the sum."""
    width = max(len(row["part"]) for row in rows)
    lines = [
        f"{row['part']:{width}}  {row['seconds']:6.0f} s  {row.get('precision', ''):9}"
        + (f" {row['threads']} threads" if "threads" in row else "")
        for row in rows
    ]
    total = sum(row["seconds"] for row in rows)
    return "\n".join([*(line.rstrip() for line in lines), f"{'together':{width}}  {total:6.0f} s"])


def stack_pictures(paths: list[Path], out: Path) -> None:
    """Put pictures under each other into one."""
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
    parser.add_argument("--started", type=float, default=time.time(), help="epoch seconds the clock starts at")
    started = parser.parse_args().started
    with one_line_errors(), children_save_first():
        run_all(started)


def run_all(started: float) -> None:
    """Run every step, then write the summary.

    Args:
        started: epoch seconds the clock starts at.
    """
    ROOT.mkdir(parents=True, exist_ok=True)

    rows = [{"part": "Install", "seconds": time.time() - started}]
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
