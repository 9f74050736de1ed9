"""Caption files: reading, picking, and the retrieval vocabulary."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from openvocab.datasets import CaptionDataset

RECORDS = [
    {"image": "a/0.png", "captions": ["a red circle", "circle in red", "red"]},
    {"image": "a/1.png", "captions": ["A  red circle", "a blue star"]},
    {"image": "b/0.png", "captions": ["a blue star"]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small images, each of one grey value, and their captions."""
    for index, record in enumerate(RECORDS):
        path = tmp_path / record["image"]
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((6, 8, 3), 10 * index, np.uint8))
    write_lines(tmp_path, [json.dumps(record) for record in RECORDS])
    return tmp_path


def write_lines(folder: Path, lines: list[str]) -> None:
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_training_samples_carry_one_caption_and_no_vocabulary(folder: Path):
    dataset = CaptionDataset("captions.jsonl", root=folder, caption="first")
    assert len(dataset) == 3 and dataset.vocabulary is None
    items = [dataset[index] for index in range(3)]
    assert [item["sample"].captions for item in items] == [("a red circle",), ("A  red circle",), ("a blue star",)]
    assert [item["sample"].sample_id for item in items] == ["a/0.png", "a/1.png", "b/0.png"]
    assert items[1]["image"].shape == (3, 6, 8) and items[1]["image"].unique().tolist() == [10]
    assert items[0]["sample"].vocabulary is None and items[0]["sample"].class_ids == ()


@pytest.mark.parametrize("cache_images", [False, True])
def test_random_captions_are_drawn_evenly_and_anew_each_time(folder: Path, cache_images: bool):
    dataset = CaptionDataset("captions.jsonl", root=folder, cache_images=cache_images)
    drawn = Counter(dataset[0]["sample"].captions for _ in range(300))
    assert set(drawn) == {(caption,) for caption in RECORDS[0]["captions"]}
    assert min(drawn.values()) > 60


def test_evaluation_is_a_classification_into_all_distinct_captions(folder: Path):
    dataset = CaptionDataset("captions.jsonl", root=folder, test_mode=True)
    assert dataset.vocabulary.class_names == ("a red circle", "circle in red", "red", "a blue star")
    samples = [dataset[index]["sample"] for index in range(3)]
    assert [sample.class_ids for sample in samples] == [(0, 1, 2), (0, 3), (3,)]  # case and white space do not count
    assert all(sample.vocabulary is dataset.vocabulary for sample in samples)
    assert samples[2].captions == ("a blue star",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", ":2: not JSON"),
        ('["a.png", "a cat"]', ":2: expected"),
        ('{"captions": ["a cat"]}', ":2: expected"),
        ('{"image": "a.png"}', ":2: expected a list of at least one caption, got None"),
        ('{"image": "a.png", "captions": "a cat"}', ":2: expected a list"),
        ('{"image": "a.png", "captions": []}', ":2: expected a list"),
        ('{"image": "a.png", "captions": ["a cat", " "]}', ":2: expected captions that are non-empty strings, got ' '"),
        ('{"image": "a/0.png", "captions": ["again"]}', ":2: image 'a/0.png' was listed in line 1 already"),
    ],
)
def test_bad_lines_are_named_by_number(folder: Path, line: str, message: str):
    write_lines(folder, [json.dumps(RECORDS[0]), line])
    with pytest.raises(ValueError, match=f"captions.jsonl{message}"):
        len(CaptionDataset("captions.jsonl", root=folder))


def test_blank_lines_do_not_count(folder: Path):
    write_lines(folder, ["", json.dumps(RECORDS[0]), "  "])
    assert len(CaptionDataset("captions.jsonl", root=folder)) == 1


def test_a_missing_file_and_an_unknown_choice_are_clear(folder: Path):
    with pytest.raises(FileNotFoundError, match="no file .*nothing.jsonl"):
        len(CaptionDataset("nothing.jsonl", root=folder))
    with pytest.raises(ValueError, match="'random' or 'first', got 'longest'"):
        CaptionDataset("captions.jsonl", root=folder, caption="longest")


def test_no_lines_are_an_error(folder: Path):
    write_lines(folder, [""])
    with pytest.raises(ValueError, match="no samples found"):
        len(CaptionDataset("captions.jsonl", root=folder))
