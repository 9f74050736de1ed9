"""tools/make_shards.py: what goes in comes out of WebCaptionDataset, whatever interrupts it."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from tool_runs import run_tool

from openvocab.datasets import WebCaptionDataset

pytest.importorskip("webdataset")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines = []
    for number in range(10):
        image = f"images/{number}.{'PNG' if number % 2 else 'jpg'}"
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / image), np.full((8, 8, 3), 20 * number, np.uint8))
        lines.append(json.dumps({"image": image, "captions": [f"grau {number}", f"größer {number}"]}))
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    return tmp_path


def make(root: Path, *options: object) -> int:
    return run_tool("make_shards", "c.jsonl", "--root", root, "--out", root / "out", "--samples-per-shard", 4, *options)


def test_shards_hold_the_files_and_all_captions(root: Path, capsys):
    assert make(root) == 0
    shown = capsys.readouterr()
    assert "10/10" in shown.err and "ETA" in shown.err and shown.out == f"3 shards in {root / 'out'}\n"
    names = ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar", "shards.json"]
    assert sorted(path.name for path in (root / "out").iterdir()) == names
    items = list(
        WebCaptionDataset("out/shard-{000000..000002}.tar", root=root, num_captions=2, caption="first", passes=1)
    )
    found = {item["sample"].captions: item["image"].float().mean().item() for item in items}
    assert len(found) == 10
    for number in range(10):
        assert abs(found[f"grau {number}", f"größer {number}"] - 20 * number) < 2
    with tarfile.open(root / "out" / "shard-000000.tar") as archive:
        assert archive.extractfile("000000000.jpg").read() == (root / "images/0.jpg").read_bytes()


def test_an_interrupted_run_is_continued(root: Path, capsys):
    make(root)
    before = {path.name: path.read_bytes() for path in (root / "out").glob("*.tar")}
    (root / "out" / "shard-000001.tar").unlink()
    (root / "out" / "shard-000002.tar").write_bytes(before["shard-000002.tar"][:-9000])  # cut off by another tool
    assert make(root) == 0
    assert "3 shards" in (output := capsys.readouterr().out) and "1 existed already" in output
    assert {path.name: path.read_bytes() for path in (root / "out").glob("*")} == {
        **before,
        "shards.json": (root / "out" / "shards.json").read_bytes(),
    }


def test_other_captions_do_not_mix_into_the_folder(root: Path, capsys):
    make(root)
    (root / "c.jsonl").write_text((root / "c.jsonl").read_text().replace("grau", "gray"))
    assert make(root) == 2
    assert "holds shards of other captions or options" in capsys.readouterr().err
    (root / "out" / "shards.json").unlink()
    assert make(root) == 2
    assert "not described by a shards.json" in capsys.readouterr().err


def test_broken_images_are_left_out_and_listed(root: Path, capsys):
    (root / "images/3.PNG").write_bytes(b"")
    (root / "images/4.jpg").unlink()
    assert make(root) == 0
    output = capsys.readouterr().out
    assert "2 images were skipped" in output and "3.PNG: the file is empty" in output and "4.jpg: No such" in output
    assert len(list(WebCaptionDataset("out/*.tar", root=root, passes=1))) == 8


def test_tables_and_mistakes(root: Path, capsys):
    (root / "t.csv").write_text("file,text\nimages/0.jpg,a cat\n")
    options = ["--root", root, "--out", root / "o", "--columns", "file", "text"]
    assert run_tool("make_shards", "t.csv", *options) == 0
    assert run_tool("make_shards", "none.csv", *options) == 2
    assert "no file" in capsys.readouterr().err
    (root / "t.csv").write_text("file,text\nimages/0.gif,a cat\n")
    assert run_tool("make_shards", "t.csv", "--root", root, "--out", root / "p", "--columns", "file", "text") == 2
    assert "image 'images/0.gif': extension: expected one of jpg" in capsys.readouterr().err
