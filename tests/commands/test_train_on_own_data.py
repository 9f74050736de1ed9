"""`openvocab train --data`: from a user's files to a checkpoint that predicts, for pixels and for boxes."""

import json

import pytest
from own_files import NAMES, write_coco, write_labelme, write_masks, write_photos, write_voc, write_yolo
from tool_runs import run_command

import openvocab
from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.own_data.parts import OwnData, Part
from openvocab.own_data.training_config import find_tower, set_tower, training_config
from openvocab.zoo.models import zoo_models

TINY_TEXT = ["model.text_encoder.model=ViT-Ti-8-shapes", "model.text_encoder.pretrained=None"]
TINY_LSEG = [
    *TINY_TEXT, "model.backbone.model=ViT-Ti-8-shapes", "model.backbone.pretrained=None", "model.backbone.trainable=1",
    "model.head.layers=[1,2,3,4]", "model.head.decoder.dims=[8,8,8,8]", "model.head.decoder.features=8",
    "train_dataloader.dataset.pipeline.2.crop=(32,32)", "train_dataloader.dataset.pipeline.2.short_side=(32,48)",
    "val_dataloader.dataset.pipeline.1.short_side=40", "test_dataloader.dataset.pipeline.1.short_side=40",
]  # fmt: skip
TINY_VILD = [
    *TINY_TEXT, "model.backbone.model=mobilenetv2_035", "model.backbone.pretrained=False",
    "model.head.detector.pyramid.dim=8", "model.head.detector.box_head.dim=16",
    "model.head.detector.proposals.pre_nms_top_n=(20,20)", "model.head.detector.proposals.post_nms_top_n=(10,10)",
    "train_dataloader.dataset.pipeline.2.short_side=64", "val_dataloader.dataset.pipeline.1.short_side=64",
    "test_dataloader.dataset.pipeline.1.short_side=64",
]  # fmt: skip
COMMON = [
    "optim_wrapper.amp=None", "precision=highest", "train_dataloader.batch_size=2", "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False", "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False", "train_cfg.max_iters=4", "run_length.validations=2",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's working folder, with photos, masks, boxes and outlines in mine/."""
    write_photos(tmp_path / "mine" / "photos")
    write_masks(tmp_path / "mine" / "masks")
    write_voc(tmp_path / "mine" / "boxes")
    write_yolo(tmp_path / "mine" / "yolo")
    write_coco(tmp_path / "mine" / "coco.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data_file(folder, labels, more=""):
    (folder / "my.yaml").write_text(f"path: mine\nimages: photos\nlabels: {labels}\nnames: {NAMES}\n{more}")
    return "my.yaml"


def options(head):
    lseg = [one for one in COMMON if not one.startswith("run_length") or head == "lseg"]
    return ["--cfg-options", *(TINY_LSEG if head == "lseg" else TINY_VILD), *lseg]


def files_in(folder):
    return {path: path.read_bytes() for path in (folder / "mine").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("head", "labels"),
    [("lseg", "masks"), ("lseg", "coco.json"), ("vild", "boxes"), ("vild", "yolo"), ("vild", "coco.json")],
)
def test_own_data_is_trained_on_and_the_checkpoint_predicts(folder, capfd, head, labels):
    before = files_in(folder)
    assert run_command("train", "--data", data_file(folder, labels), "--head", head, "--json", *options(head)) == 0
    shown = capfd.readouterr()
    outcome = json.loads(shown.out)
    assert "my.yaml has no validation images: 1 of 6 are split off, the same ones every time" in shown.err
    work_dir = folder / "work_dirs" / f"{head}_my"
    assert outcome["iterations"] == 4 and outcome["work_dir"] == str(work_dir)
    assert files_in(folder) == before and sorted(path.name for path in folder.iterdir()) == [
        "mine", "my.yaml", "work_dirs"
    ]  # fmt: skip
    assert load_checkpoint(work_dir / "last.pth")["meta"]["class_names"] == NAMES
    # one file of the newest step, and that of the best one if it is another
    assert {path.stat().st_ino for path in work_dir.glob("*.pth")} == {
        (work_dir / name).stat().st_ino for name in ("last.pth", "best.pth")
    }
    prediction = openvocab.load(work_dir / "last.pth")(folder / "mine/photos/photo 0.png", ["red box", "else"])
    assert prediction.class_names == ("red box", "else") if head == "lseg" else len(prediction.boxes) >= 0


@pytest.mark.parametrize("head", ["lseg", "vild"])
def test_a_folder_of_a_labeling_tool_needs_no_data_file(folder, capfd, head):
    write_photos(folder / "labelme")
    write_labelme(folder / "labelme")
    assert run_command("train", "--data", "labelme", "--head", head, *options(head)) == 0
    meta = load_checkpoint(folder / f"work_dirs/{head}_labelme/last.pth")["meta"]
    assert meta["class_names"] == sorted(NAMES) and meta["samples"] == 5


@pytest.mark.parametrize("head", ["lseg", "vild"])
def test_a_saved_dataset_of_hugging_face_needs_no_data_file(folder, capfd, head, monkeypatch):
    pytest.importorskip("datasets.arrow_dataset", reason="needs datasets, which writes what is read here")
    from saved_datasets import of_boxes, of_label_maps, save_to_disk

    monkeypatch.setenv("OPENVOCAB_CACHE", str(folder / "cache"))
    made = (of_label_maps if head == "lseg" else of_boxes)(folder / "made")
    save_to_disk(folder / "hugging", dict(train=made.select(range(4)), validation=made.select(range(4, 6))))
    (folder / "hugging" / "names.txt").write_text("\n".join(NAMES))
    assert run_command("train", "--data", "hugging", "--head", head, *options(head)) == 0
    meta = load_checkpoint(folder / f"work_dirs/{head}_hugging/last.pth")["meta"]
    assert meta["class_names"] == NAMES and meta["samples"] == 4


def test_a_run_is_resumed_with_the_same_split(folder, capfd):
    words = ["train", "--data", data_file(folder, "masks"), "--head", "lseg", *options("lseg")]
    assert run_command(*words) == 0
    parts = {path: path.read_text() for path in (folder / "work_dirs/lseg_my/parts").iterdir()}
    longer = [word.replace("max_iters=4", "max_iters=6") for word in words]
    assert run_command(*longer, "--resume") == 0
    assert load_checkpoint(folder / "work_dirs/lseg_my/last.pth")["meta"]["iter"] == 6
    assert {path: path.read_text() for path in (folder / "work_dirs/lseg_my/parts").iterdir()} == parts
    assert len(parts) == 2


def test_minutes_end_a_run_and_out_names_its_folder(folder, capfd):
    words = ["--data", data_file(folder, "masks"), "--head", "lseg", "--minutes", "0.05", "--out", "here"]
    long = [word for word in options("lseg") if "max_iters" not in word]
    assert run_command("train", *words, *long, "run_length.passes=10000") == 0
    saved = load_checkpoint(folder / "here" / "last.pth")
    assert saved["run_length"]["is_decided"] and 4 < saved["meta"]["iter"] < 5000
    assert saved["meta"]["config"]["run_length"]["minutes"] == 0.05


def test_the_users_validation_and_test_images_are_used(folder, capfd):
    (folder / "mine/train.txt").write_text("".join(f"photo {index}\n" for index in range(4)))
    for part, index in (("val", 4), ("test", 5)):
        (folder / f"mine/{part}.txt").write_text(f"photo {index}\n")
    data_file(folder, "masks", "splits: {train: train.txt, val: val.txt, test: test.txt}\n")
    assert run_command("train", "--data", "my.yaml", "--head", "lseg", *options("lseg")) == 0
    assert "split off" not in capfd.readouterr().err
    config = load_checkpoint(folder / "work_dirs/lseg_my/last.pth")["meta"]["config"]
    keys = [config[f"{part}_dataloader"]["dataset"]["keys"] for part in ("train", "val", "test")]
    assert keys == ["mine/train.txt", "mine/val.txt", "mine/test.txt"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "expected a config, or --data DATA with --head"),
        (["lseg_shapes", "--data", "mine", "--head", "lseg"], "got both"),
        (["--data", "mine"], "--head: expected lseg"),
        (["lseg_shapes", "--model", "clip-vit-b16"], "--model is for --data"),
        (["--data", "nothing", "--head", "lseg"], "no file or folder nothing"),
        (["--data", "my.yaml", "--head", "vild"], "label maps, which do not fit detection; --head lseg"),
        (["--data", "my.yaml", "--head", "lseg", "--model", "clip-vit-b61"], "did you mean clip-vit-b16"),
        (["--data", "my.yaml", "--head", "lseg", "--model", "groupvit-gcc-yfcc"], "expected one of dense-clip"),
        (["--data", "my.yaml", "--head", "lseg", "--minutes", "0"], "more than 0 minutes"),
        (
            ["--data", "my.yaml", "--head", "lseg", "--cfg-options", "train_dataloader.dataset.images=x"],
            "--data states it",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(folder, capsys, words, line):
    data_file(folder, "masks")
    before = sorted(path.name for path in folder.iterdir())
    assert run_command("train", *words) == 2
    errors = [one for one in capsys.readouterr().err.splitlines() if "error: " in one]
    assert len(errors) == 1 and line in errors[0]
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("name", [model.name for model in zoo_models() if model.tag is not None])
def test_every_published_tower_gives_lseg_its_layers(name, folder):
    from mmengine.config import ConfigDict

    config = ConfigDict(model=dict(text_encoder={}, backbone={}, head=dict(decoder={})))
    set_tower(config, "lseg", find_tower(name))
    depth = 24 if "l14" in name else 12
    assert config.model.head.layers == (depth // 4, depth // 2, 3 * depth // 4, depth)
    assert config.model.head.decoder.readout == ("ignore" if "siglip" in name else "project")
    assert config.model.backbone == config.model.text_encoder


def test_a_config_of_own_data_has_the_lengths_of_the_packages_configs(folder):
    part = Part(folder / "mine/photos", folder / "mine/coco.json")
    data = OwnData(folder / "my.yaml", "COCO", {"train": part, "val": part}, [[name] for name in NAMES])
    for head, schedule in (("lseg", 1000), ("vild", 2000)):
        config = training_config(data, head, folder / "parts")
        assert config.run_length["schedule"] == schedule == config.param_scheduler[-1]["end"]
        assert "max_iters" not in config.train_cfg
