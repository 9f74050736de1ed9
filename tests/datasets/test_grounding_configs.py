"""The data configs of grounding sets read files that lie where their pages say, and ODinW's loop ends in a mean."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from coco_folder import coco_content, write_coco
from grounding_folder import IDS, write_entities, write_images
from grounding_folder import coco_content as captioned_content

from openvocab.config.config import read_config
from openvocab.datasets.shapes.writing import write_shapes
from openvocab.registry import DATA_SAMPLERS, DATASETS, METRICS

FOLDER = Path(__file__).resolve().parents[2] / "configs/_base_/datasets"


def build(config, part, root):
    """Build the dataset of a part below another root, with tokens counted by their letters."""
    settings = config[f"{part}_dataloader"].dataset.to_dict()
    for one in settings.get("datasets", [settings]):
        one["root"] = str(root / Path(one["root"]).relative_to("data"))
        for transform in one["pipeline"]:
            if "tokenizer" in transform:
                transform["tokenizer"] = len
    return DATASETS.build(settings)


def check_parts(config, root, sizes):
    """Load the first item of each part, and give the samples of test to the metric."""
    for part, size in sizes.items():
        dataset = build(config, part, root)
        assert len(dataset) == size
        assert dataset[0]["sample"].instances is not None
    DATA_SAMPLERS.build(dict(config.train_dataloader.sampler, dataset=build(config, "train", root), seed=0))
    METRICS.build(config.test_evaluator.to_dict())


def test_shapes(tmp_path):
    write_shapes(tmp_path / "shapes", num_train=4, num_val=3, objects_per_class=0, processes=1)
    config = read_config(FOLDER / "shapes_grounding.py")
    check_parts(config, tmp_path, {"train": 2 * 5, "val": 3 * 5, "test": 3 * 5})


def test_flickr30k_entities(tmp_path):
    folder = tmp_path / "flickr30k"
    folder.mkdir()
    write_entities(folder).rename(folder / "flickr30k_entities")
    (folder / "images").rename(folder / "flickr30k-images")
    for part, number in (("train", IDS[1]), ("val", IDS[0]), ("test", IDS[0])):
        (folder / f"flickr30k_entities/{part}.txt").write_text(f"{number}\n")
    config = read_config(FOLDER / "flickr30k_entities.py")
    check_parts(config, tmp_path, {"train": 1, "val": 2, "test": 2})
    assert config.val_dataloader.dataset["keys"] != config.test_dataloader.dataset["keys"]


def _write_goldg(root):
    write_images(root)
    for folder in ("coco/train2014", "gqa/images", "flickr30k/flickr30k-images", "mdetr_annotations"):
        (root / folder).parent.mkdir(exist_ok=True)
        (root / folder).mkdir()
        for number in IDS:
            (root / folder / f"{number}.jpg").write_bytes((root / f"images/{number}.jpg").read_bytes())
    for name in ("final_mixed_train_no_coco", "final_flickr_separateGT_train", "final_flickr_separateGT_val"):
        (root / f"mdetr_annotations/{name}.json").write_text(json.dumps(captioned_content()))


def test_goldg(tmp_path):
    _write_goldg(tmp_path)
    check_parts(read_config(FOLDER / "goldg.py"), tmp_path, {"train": 4, "val": 2, "test": 2})


def test_objects365_and_goldg_are_one_stream(tmp_path):
    _write_goldg(tmp_path)
    (tmp_path / "objects365").mkdir()
    write_coco(tmp_path / "objects365").rename(tmp_path / "objects365/objects365_train.json")
    (tmp_path / "objects365/images").rename(tmp_path / "objects365/train")
    config = read_config(FOLDER / "objects365_goldg.py")
    check_parts(config, tmp_path, {"train": 2 + 4, "val": 2})
    dataset = build(config, "train", tmp_path)
    assert all(dataset[index]["sample"].prompt is not None for index in range(6))


def test_one_root_of_a_mixture_is_one_option():
    config = read_config(FOLDER / "goldg.py", {"train_dataloader.dataset.datasets.1.root": "elsewhere"})
    assert [part.root for part in config.train_dataloader.dataset.datasets] == ["data", "elsewhere"]


def test_refcoco(tmp_path):
    content = captioned_content()
    content["annotations"] = [note for note in content["annotations"] if note["id"] in (5, 8)]
    for image in content["images"]:
        image.pop("tokens_positive_eval", None)
    content["annotations"][1]["tokens_positive"] = [[14, 19]]
    write_images(tmp_path)
    (tmp_path / "coco").mkdir()
    (tmp_path / "images").rename(tmp_path / "coco/train2014")
    (tmp_path / "mdetr_annotations").mkdir()
    for part in ("train", "val"):
        (tmp_path / f"mdetr_annotations/finetune_refcoco_{part}.json").write_text(json.dumps(content))
    config = read_config(FOLDER / "refcoco.py")
    check_parts(config, tmp_path, {"train": 2, "val": 2, "test": 2})
    assert len(build(config, "val", tmp_path)[0]["sample"].prompt) == 1


# ---- ODinW ----


@pytest.mark.parametrize("count", [13, 35])
def test_every_line_of_odinw_is_a_folder_and_a_file_of_one_dataset(count):
    lines = [line.split(",") for line in (FOLDER / f"odinw_{count}.csv").read_text().splitlines()]
    assert len(lines) == count == len({tuple(line) for line in lines})
    for images, annotations in lines:
        assert annotations.startswith(images + "/") and annotations.endswith("annotations_without_background.json")
    if count == 13:
        assert {tuple(line) for line in lines} < {
            tuple(line.split(",")) for line in (FOLDER / "odinw_35.csv").read_text().splitlines()
        }


def test_odinw_reads_one_of_its_datasets(tmp_path):
    for part in ("train", "valid"):
        folder = tmp_path / "odinw/pothole" / part
        folder.mkdir(parents=True)
        write_coco(folder)
        for path in (folder / "images").iterdir():
            path.rename(folder / path.name)
        (folder / "annotations_without_background.json").write_text(json.dumps(coco_content()))
    config = read_config(FOLDER / "odinw.py")
    check_parts(config, tmp_path, {"train": 2, "val": 4, "test": 4})
    prompt = build(config, "train", tmp_path)[1]["sample"].prompt
    assert prompt.text == "cat. dog. traffic light"


def test_the_mean_of_odinw_is_that_of_the_result_files(tmp_path):
    page = ast.get_docstring(ast.parse((FOLDER / "odinw.py").read_text()))
    (program,) = re.findall(r"python -c '(.*?)'", page, re.DOTALL)
    (tmp_path / "work_dirs/odinw").mkdir(parents=True)
    for number, score in enumerate((10.0, 30.0, 50.0)):
        (tmp_path / f"work_dirs/odinw/{number}.json").write_text(json.dumps({"coco_box_AP": score, "protocol": {}}))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "30.0"]
