"""The grounding files of the Shapes world: spans, boxes, and which captions they hold."""

import json
import re
from pathlib import Path

import pytest

from openvocab.datasets.shapes.captions import LARGE, SIZE_WORDS, SMALL, write_captions
from openvocab.datasets.shapes.classes import CLASS_NAMES, COLORS, FORMS, SEEN, UNSEEN
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.scene import TEXTURES, sample_scene
from openvocab.datasets.shapes.writing import write_shapes

TINY = dict(num_train=40, num_val=30, objects_per_class=0)
FILES = ("grounding_v1_train.jsonl", "grounding_v1_val.jsonl")
NUMBER_OF = {"a": 1, "an": 1, "one": 1, "the": 1, "two": 2, "three": 3, "four": 4, "five": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "shapes"
    write_shapes(folder, processes=1, **TINY)
    return folder


def _records(root: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (root / f"grounding_v1_{split}.jsonl").read_text().splitlines()]


def _named_class(phrase: str) -> str:
    """The class that a phrase names, read from its words alone, in whichever order."""
    (color,) = set(re.findall("|".join(COLORS), phrase))
    (form,) = set(re.findall("|".join(FORMS), phrase))
    return f"{color} {form}"


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_captions_are_those_of_the_caption_file_in_its_order(root, split):
    captions = [row for row in map(json.loads, (root / f"captions_{split}.jsonl").read_text().splitlines())]
    grounded = [(record["filename"], record["grounding"]["caption"]) for record in _records(root, split)]
    kept = captions[: 20 if split == "train" else None]  # the dense half of train
    assert grounded == [(Path(row["image"]).name, caption) for row in kept for caption in row["captions"]]


@pytest.mark.parametrize("split", ["train", "val"])
def test_spans_and_boxes_are_those_of_the_objects_that_are_named(root, split):
    coco = json.loads((root / f"instances_{split}.json").read_text())
    name_of = {image["id"]: image["file_name"] for image in coco["images"]}
    boxes_of: dict[tuple[str, str], list] = {}
    for note in coco["annotations"]:
        left, top, width, height = note["bbox"]
        key = name_of[note["image_id"]], CLASS_NAMES[note["category_id"] - 1]
        boxes_of.setdefault(key, []).append([left, top, left + width, top + height])
    for record in _records(root, split):
        caption, spans = record["grounding"]["caption"], []
        for region in record["grounding"]["regions"]:
            words = " ".join(caption[begin:end] for begin, end in region["tokens_positive"])
            assert words == region["phrase"]
            name = _named_class(words)
            same = boxes_of[record["filename"], name]
            assert all(box in same for box in region["bbox"])
            assert len({tuple(box) for box in region["bbox"]}) == len(region["bbox"])
            assert len(region["bbox"]) == NUMBER_OF.get(words.split()[0], 1)
            assert region["type"] == ("seen" if CLASS_NAMES.index(name) in SEEN else "unseen")
            spans += region["tokens_positive"]
        assert spans and spans == sorted(spans) and all(a[1] <= b[0] for a, b in zip(spans, spans[1:]))
        for begin, end in reversed(spans):
            caption = caption[:begin] + caption[end:]
        assert not re.search(rf"\b({'|'.join(FORMS)})", caption), "an object without a span"


def test_unseen_pairs_are_in_no_training_caption_and_in_many_of_val(root):
    named = [region["phrase"] for record in _records(root, "train") for region in record["grounding"]["regions"]]
    assert not {_named_class(phrase) for phrase in named} & {CLASS_NAMES[k] for k in UNSEEN}
    types = [{r["type"] for r in record["grounding"]["regions"]} for record in _records(root, "val")]
    assert sum("unseen" in found for found in types) > 30


def test_a_phrase_refers_to_the_object_that_its_words_and_location_describe():
    """Twins: only the words tell two objects of one class apart, so the writer's choice must be the one recorded."""
    checked = 0
    for number in range(300):
        scene = sample_scene(RandomStream(9, number), [7, 7, 7, 20])
        for caption in write_captions(scene, RandomStream(10, number)):
            for phrase in caption.phrases:
                words = " ".join(caption.text[begin:end] for begin, end in phrase.ranges)
                rest = caption.text[phrase.ranges[-1][1] :]
                for obj in (scene.objects[index] for index in phrase.objects):
                    assert _named_class(words) == obj.name
                    checked += _check_description(words, rest, obj)
    assert checked > 300


def _check_description(words: str, rest: str, obj) -> int:
    """Check size, texture and location words against the object; return how many there are."""
    checked = 0
    for size, is_so in (("large", obj.diameter >= LARGE), ("small", obj.diameter <= SMALL)):
        if set(words.split()) & set(SIZE_WORDS[size]):
            assert is_so
            checked += 1
    for texture in set(words.split()) & set(TEXTURES):
        assert obj.texture == texture
        checked += 1
    if found := re.match(r"(?: is)? in the (upper|lower) (left|right)", rest):
        row, column = (int(3 * c / 64) for c in obj.center)
        assert (row, column) == (0 if found[1] == "upper" else 2, 0 if found[2] == "left" else 2)
        checked += 1
    return checked


def test_a_relation_holds_between_the_two_objects_of_its_phrases():
    checked = 0
    for number in range(200):
        scene = sample_scene(RandomStream(11, number), [7, 7])
        for caption in write_captions(scene, RandomStream(12, number)):
            if found := re.search(r"\b(left|right) (?:of|side of)", caption.text):
                first, second = (scene.objects[phrase.objects[0]] for phrase in caption.phrases)
                assert (first.center[1] < second.center[1]) == (found[1] == "left")
                checked += 1
    assert checked > 30


def test_a_folder_of_an_earlier_version_is_completed_without_a_change_to_its_other_files(root, tmp_path):
    old = tmp_path / "old"
    write_shapes(old, processes=1, **TINY)
    for name in FILES:
        (old / name).unlink()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in old.rglob("*") if path.is_file()}
    assert write_shapes(old, processes=1, **TINY) and not write_shapes(old, processes=1, **TINY)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert {path.name for path in old.rglob("*") if path.is_file() and path not in before} == {*FILES}
    assert all((old / name).read_bytes() == (root / name).read_bytes() for name in FILES)


def test_one_missing_file_is_written_alone(root, tmp_path):
    folder = tmp_path / "shapes"
    write_shapes(folder, processes=1, **TINY)
    (folder / FILES[1]).unlink()
    before = (folder / FILES[0]).stat().st_mtime_ns
    assert write_shapes(folder, processes=1, **TINY)
    assert (folder / FILES[1]).read_bytes() == (root / FILES[1]).read_bytes()
    assert (folder / FILES[0]).stat().st_mtime_ns == before


def test_captions_that_were_changed_are_not_given_the_phrases_of_others(tmp_path):
    folder = tmp_path / "shapes"
    write_shapes(folder, processes=1, **TINY)
    (folder / FILES[1]).unlink()
    path = folder / "captions_val.jsonl"
    path.write_text(path.read_text().replace("red", "crimson"))
    with pytest.raises(ValueError, match=r"captions_val\.jsonl has other captions of images/val/.*draw it again"):
        write_shapes(folder, processes=1, **TINY)
    assert not (folder / FILES[1]).exists()
