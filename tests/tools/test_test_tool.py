"""tools/test.py: metrics with their protocol, other class names, pictures."""

import json

import pytest
from config_parts import without_weights
from PIL import Image
from tool_runs import LSEG_SHAPES, REPOSITORY, run_tool, tiny_lseg_options, write_tiny_shapes

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.config.config import read_config
from openvocab.registry import MODELS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return the checkpoint of a random model, the options of a tiny dataset, and its folder."""
    folder = tmp_path_factory.mktemp("test_tool")
    options = tiny_lseg_options(write_tiny_shapes(folder / "shapes"))
    overrides = {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None}
    model = MODELS.build(read_config(LSEG_SHAPES, overrides).model)
    save_checkpoint({"state_dict": model.state_dict()}, folder / "model.pth")
    return folder / "model.pth", options, folder / "shapes"


def test_writes_flat_metrics_and_protocol(prepared, tmp_path):
    checkpoint, options, _ = prepared
    out = tmp_path / "metrics.json"
    arguments = (LSEG_SHAPES, checkpoint, "--work-dir", tmp_path / "run", "--out", out)
    assert run_tool("test", *arguments, "--show-dir", tmp_path / "pictures", *options) == 0
    metrics = json.loads(out.read_text())
    for key in ("mIoU", "mIoU_seen", "mIoU_unseen", "mIoU_harmonic", "pixel_accuracy"):
        assert 0 <= metrics[key] <= 100
    assert metrics["protocol"]["images"] == 4 and metrics["protocol"]["classes"] == 49
    numbers = {key for key, value in metrics.items() if isinstance(value, float)}
    assert metrics["protocol"]["units"] == dict.fromkeys([*numbers, "IoU", "accuracy"], "%")
    rows = metrics["per_class"]
    assert len(rows) == 49 and rows[0]["class"] == rows[0]["role"] == "background"
    assert {row["role"] for row in rows[1:]} == {"seen", "unseen"}
    present = [row["IoU"] for row in rows if row["IoU"] is not None]
    assert sum(present) / len(present) == pytest.approx(metrics["mIoU"])
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 4 and Image.open(pictures[0]).size[1] >= 64


def test_the_protocol_of_prompts_says_which_names_share_one(prepared, tmp_path):
    _, _, shapes = prepared
    config = REPOSITORY / "configs" / "glip_shapes.py"
    model = MODELS.build(without_weights(read_config(config).model.to_dict()))
    save_checkpoint({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    out = tmp_path / "metrics.json"
    options = [f"test_dataloader.dataset.root={shapes}", "model.head.names_at_once=20"]
    arguments = (config, tmp_path / "model.pth", "--work-dir", tmp_path / "run", "--out", out)
    assert run_tool("test", *arguments, "--cfg-options", *options) == 0
    protocol = json.loads(out.read_text())["protocol"]
    assert protocol["prompt_form"] == "evaluation" and protocol["names_at_once"] == 20
    assert protocol["names_of_each_prompt"] == [20, 20, 8] and protocol["prompts"] == 3
    assert protocol["classes"] == 48 and protocol["class_list_sha256"]


def test_other_names_are_evaluated_where_shared(prepared, tmp_path, capsys):
    checkpoint, options, shapes = prepared
    names = (shapes / "classes.txt").read_text().splitlines()
    (tmp_path / "names.txt").write_text("\n".join(["a thing", *names[:7]]))
    arguments = (LSEG_SHAPES, checkpoint, "--work-dir", tmp_path / "run", "--out", tmp_path / "m.json")
    assert run_tool("test", *arguments, "--classes-file", tmp_path / "names.txt", *options) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert metrics["protocol"]["evaluated_classes"] == names[:7] == [row["class"] for row in metrics["per_class"]]
    assert metrics["protocol"]["classes"] == 8
    shown = capsys.readouterr()
    assert "7 of them are classes of the data" in shown.err
    assert f"mIoU: {metrics['mIoU']:.2f} %\n" in shown.out


def test_names_without_any_match(prepared, tmp_path, capsys):
    checkpoint, options, _ = prepared
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    arguments = (LSEG_SHAPES, checkpoint, "--work-dir", tmp_path / "run", "--classes-file", tmp_path / "names.txt")
    assert run_tool("test", *arguments, *options) == 2
    assert "none of its 2 names is a class of the data" in capsys.readouterr().err
    assert run_tool("test", *arguments, "--show-dir", tmp_path / "pictures", *options) == 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [("missing", "no such checkpoint"), ("cut", "is damaged"), ("other", "does not fit the model, nothing was loaded")],
)
def test_a_bad_checkpoint_is_one_line(prepared, tmp_path, capsys, damage, message):
    checkpoint, options, _ = prepared
    path = tmp_path / "bad.pth"
    if damage == "cut":
        path.write_bytes(checkpoint.read_bytes()[:100_000])
    elif damage == "other":
        save_checkpoint({"state_dict": {}}, path)
    assert run_tool("test", LSEG_SHAPES, path, "--work-dir", tmp_path / "run", *options) == 2
    written = capsys.readouterr().err
    last = written.splitlines()[-1]
    assert last.startswith("error: ") and message in last and "Traceback" not in written
