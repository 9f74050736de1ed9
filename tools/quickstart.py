"""The whole path on one machine without downloads: draw Shapes, pretrain its CLIP, train LSeg, test, show.

Writes `work_dirs/quickstart/summary.json` and pictures under `work_dirs/quickstart/pictures/`. The same command
continues a quickstart that was interrupted.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path("work_dirs/quickstart")
PICTURES = ROOT / "pictures"
CLIP, LSEG = "work_dirs/clip_shapes", "work_dirs/lseg_shapes"


def run(title: str, *command: str) -> None:
    """Run one of the tools as a user would; stop the quickstart where it fails."""
    print(f"\n== {title}\n   python {' '.join(command)}", flush=True)
    started = time.time()
    code = subprocess.run([sys.executable, *command]).returncode
    if code:
        sys.exit(f"quickstart stopped: `python {' '.join(command)}` ended with exit code {code}")
    print(f"   {time.time() - started:.0f} s", flush=True)


def train(title: str, config: str, folder: str) -> None:
    """Train, or continue what an earlier quickstart began: a training that is finished is used as it is."""
    begun = any(Path(folder).glob("*.pth"))
    if begun:
        print(f"\n{folder} holds a training: it is continued, or used where it is finished; remove it to train anew")
    run(title, "tools/train.py", config, *["--resume"] * begun)


def test(title: str, config: str, checkpoint: str, name: str, *options: str) -> dict:
    """Test a checkpoint and return its metrics."""
    out = ROOT / f"{name}.json"
    run(title, "tools/test.py", config, checkpoint, "--out", str(out), *options)
    return json.loads(out.read_text())


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
    """Run every step, then write the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--started", type=float, default=time.time(), help="epoch seconds the clock starts at")
    started = parser.parse_args().started
    ROOT.mkdir(parents=True, exist_ok=True)

    run("Draw the Shapes world", "tools/make_shapes.py", "--root", "data/shapes")
    train("Pretrain its tiny CLIP on captions", "configs/clip_shapes.py", CLIP)
    clip = test("Name single objects (zero-shot)", "configs/clip_shapes.py", f"{CLIP}/last.pth", "clip")
    dense = test("Segment without training", "configs/dense_clip_shapes.py", f"{CLIP}/last.pth", "dense_clip")
    train("Train LSeg on the seen classes", "configs/lseg_shapes.py", LSEG)
    lseg = test(
        "Test LSeg on seen and unseen classes", "configs/lseg_shapes.py", f"{LSEG}/best.pth", "lseg",
        "--show-dir", str(PICTURES), "--show-count", "12",
    )  # fmt: skip
    stack_pictures(sorted(PICTURES.glob("*.png"))[:4], ROOT / "overview.png")

    summary = {
        "minutes": round((time.time() - started) / 60, 2),
        "lseg_seen_miou": lseg["mIoU_seen"],
        "lseg_unseen_miou": lseg["mIoU_unseen"],
        "dense_clip_unseen_miou": dense["mIoU_unseen"],
        "clip_top1": clip["top1"],
    }
    (ROOT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print("\n" + json.dumps(summary, indent=2))
    print(
        f"summary: {ROOT / 'summary.json'}\npictures: {PICTURES}, {ROOT / 'overview.png'}\ncheckpoints: {CLIP}, {LSEG}"
    )


if __name__ == "__main__":
    main()
