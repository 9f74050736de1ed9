"""Caption files: reading, picking, and the retrieval vocabulary."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from openvocab.datasets import CaptionDataset
from openvocab.datasets.files.caption_files import read_records
from openvocab.datasets.shards.shard_writing import write_shards
from openvocab.datasets.transforms import LoadImage, PackSample

RECORDS = [
    {"image": "a/0.png", "captions": ["a red circle", "circle in red", "red"]},
    {"image": "a/1.png", "captions": ["A  red circle", "a blue star"]},
    {"image": "b/0.png", "captions": ["a blue star"]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small images, each of one gray value, and their captions."""
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
    dataset = CaptionDataset("captions.jsonl", root=folder, loading=dict(cache_images=cache_images))
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


def test_a_caption_that_an_image_repeats_is_counted_twice(folder: Path):
    (folder / "twice.jsonl").write_text('{"image": "a/0.png", "captions": ["red", "blue", "Red"]}\n')
    dataset = CaptionDataset("twice.jsonl", root=folder, test_mode=True)
    assert dataset[0]["sample"].class_ids == (0, 1, 0) and dataset.vocabulary.class_names == ("red", "blue")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", ":2 is not JSON"),
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
    with pytest.raises(ValueError, match=r"caption: expected one of random, first, got 'longest'"):
        CaptionDataset("captions.jsonl", root=folder, caption="longest")


def test_no_lines_are_an_error(folder: Path):
    write_lines(folder, [""])
    with pytest.raises(ValueError, match="no samples found"):
        len(CaptionDataset("captions.jsonl", root=folder))


def test_tables_gather_the_rows_of_an_image(folder: Path):
    rows = ['image,caption,extra\n"a/0.png","a red circle, small",1\nb/0.png,"two\nlines",2\na/0.png,"say ""red""",3\n']
    (folder / "captions.csv").write_text("\ufeff" + rows[0], encoding="utf-8")
    dataset = CaptionDataset("captions.csv", root=folder, test_mode=True)
    samples = [dataset[index]["sample"] for index in range(len(dataset))]
    assert [sample.captions for sample in samples] == [("a red circle, small", 'say "red"'), ("two lines",)]


def test_tabs_are_not_quoted_and_columns_have_names(folder: Path):
    (folder / "t.tsv").write_text('title\tfilepath\na 12" record\ta/0.png\n"open quote\ta/1.png\n', encoding="utf-8")
    dataset = CaptionDataset("t.tsv", root=folder, columns=("filepath", "title"))
    assert [dataset[index]["sample"].captions for index in range(2)] == [('a 12" record',), ('"open quote',)]
    with pytest.raises(ValueError, match=r"t.tsv:1: no column 'image', the header has \['title', 'filepath'\]"):
        len(CaptionDataset("t.tsv", root=folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,caption\na/0.png,\n", ":2: expected captions that are non-empty strings, got ''"),
        ("image,caption\na/0.png,x\na/1.png\n", ":3: expected captions that are non-empty strings, got None"),
        ("image,caption\n,a cat\n", ":2: the column 'image' is empty"),
        ("image,caption\na/0.png,a cat, asleep\n", ":2: 3 columns, the header has 2; a caption that contains commas"),
        ("", ":1: no column 'image'"),
        (f'image,caption\na/0.png,"{"x" * 140000}\n', ":2: field larger than field limit"),
        ('image,caption\na/0.png,a\n\na/1.png,"b\nb/0.png,c\n', ":4: unexpected end of data; is a double quote not"),
        ('image,caption\na/0.png,"a\na/1.png,"b"\n', ":2: ',' expected after '\"'; is a double quote not closed"),
        ('image,caption\na/0.png,"a\na/1.png,b\nb/0.png,c"\n', ":2: the row of 'a/1.png' is within double quotes"),
        ('caption,image\n"a,a/0.png\r\nb, x,a/1.png\r\nc",b/0.png\n', ":2: the row of 'a/0.png' is within"),
        ('image,caption\na.avif,"a\nb.AVIF,b\nc.avif,c"\n', ":2: the row of 'b.AVIF' is within double quotes"),
        ('image,caption\na/0.png,"say "red""\n', ":2: ',' expected after '\"'"),
        ("image,caption,caption\na/0.png,a,b\n", ":1: the header has the column 'caption' 2 times; rename one"),
    ],
    ids=[
        "empty",
        "short",
        "no image",
        "commas",
        "no header",
        "long field",
        "open quote",
        "quote in the next row",
        "quote over rows",
        "quote over rows, image last",
        "quote over rows, other extension",
        "quotes not doubled",
        "column twice",
    ],
)
def test_bad_rows_are_named_by_number(folder: Path, text: str, message: str):
    (folder / "captions.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"captions.csv{message}"):
        len(CaptionDataset("captions.csv", root=folder))


SPELLINGS = ["a/caf\u00e9.png", "./a/cafe\u0301.png", "a//cafe\u0301.png"]
"""Of one file; on the disk it is the second, without the dot."""


@pytest.fixture
def cafe(folder: Path) -> Path:
    (folder / "a/0.png").rename(folder / "a/cafe\u0301.png")
    return folder


@pytest.mark.parametrize("extension", ["csv", "tsv"])
def test_rows_of_one_image_are_one_however_it_is_spelled(cafe: Path, extension: str):
    tab = "\t" if extension == "tsv" else ","
    rows = [f"{image}{tab}{number}" for number, image in enumerate([*SPELLINGS, "a/1.png"])]
    (cafe / f"c.{extension}").write_text("\n".join([f"image{tab}caption", *rows]), encoding="utf-8")
    dataset = CaptionDataset(f"c.{extension}", root=cafe, test_mode=True)
    assert [dataset[index]["sample"].captions for index in range(len(dataset))] == [("0", "1", "2"), ("3",)]


@pytest.mark.parametrize("other", SPELLINGS[1:])
def test_an_image_in_two_entries_is_refused_however_it_is_spelled(cafe: Path, other: str):
    write_lines(cafe, [json.dumps({"image": image, "captions": ["a"]}) for image in (SPELLINGS[0], other)])
    with pytest.raises(ValueError, match=r"captions.jsonl:2: image .* was listed in line 1 already"):
        len(CaptionDataset("captions.jsonl", root=cafe))
    images = [{"filename": image, "split": "val", "sentences": [{"raw": "a"}]} for image in (SPELLINGS[0], other)]
    with pytest.raises(ValueError, match=r"dataset.json: image 1: .* was listed as image 0 already"):
        len(CaptionDataset(karpathy(cafe, images), root=cafe))


@pytest.mark.parametrize("image", SPELLINGS)
def test_images_are_found_however_their_accents_are_coded(cafe: Path, image: str):
    write_lines(cafe, [json.dumps({"image": image, "captions": ["a"]})])
    assert CaptionDataset("captions.jsonl", root=cafe)[0]["image"].shape == (3, 6, 8)
    records = read_records(cafe / "captions.jsonl")
    assert write_shards(records, cafe, cafe / "shards").bad == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(columns="ab"), "columns: expected a list of names, got 'ab'"),
        (dict(columns=["image"]), r"columns: expected the names of the columns of image and caption, got \['image'\]"),
        (dict(split=5), "split: expected a list of names, got 5"),
        (dict(num_captions=1.5), "num_captions: expected a whole number, got 1.5"),
        (dict(num_captions=True), "num_captions: expected a whole number, got True"),
        (dict(root=5), "root: expected a path, got 5"),
    ],
)
def test_arguments_of_another_type_are_named(folder: Path, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        CaptionDataset("captions.jsonl", **{"root": folder, **options})


def karpathy(folder: Path, images: list[dict]) -> str:
    (folder / "dataset.json").write_text(json.dumps({"images": images, "dataset": "tiny"}), encoding="utf-8")
    return "dataset.json"


def test_karpathy_splits(folder: Path):
    splits = zip(("train", "restval", "test"), RECORDS)
    name = karpathy(
        folder,
        [
            {
                "filepath": record["image"][0],
                "filename": record["image"][2:],
                "split": split,
                "sentences": [{"raw": caption, "tokens": []} for caption in record["captions"]],
            }
            for split, record in splits
        ],
    )
    assert len(CaptionDataset(name, root=folder)) == 3
    dataset = CaptionDataset(name, root=folder, split=["train", "restval"], caption="first")
    assert [dataset[index]["sample"].sample_id for index in range(len(dataset))] == ["a/0.png", "a/1.png"]
    assert CaptionDataset(name, root=folder, split="test", test_mode=True).vocabulary.class_names == ("a blue star",)
    with pytest.raises(ValueError, match=r"no split \['val'\]; it has \['restval', 'test', 'train'\]"):
        len(CaptionDataset(name, root=folder, split="val"))
    with pytest.raises(ValueError, match="split='val' is for Karpathy's JSON"):
        len(CaptionDataset("captions.jsonl", root=folder, split="val"))


def test_bad_karpathy_entries_are_named(folder: Path):
    for image, message in (({"split": "val"}, "expected an object"), ({"filename": "1.png"}, "at least one caption")):
        with pytest.raises(ValueError, match=f"dataset.json: image 0: {message}|{message}"):
            len(CaptionDataset(karpathy(folder, [image]), root=folder))
    image = {"filename": "0.png", "filepath": "a", "split": "val", "sentences": [{"raw": "a cat"}]}
    with pytest.raises(ValueError, match=r"dataset.json: image 1: image 'a/0.png' was listed as image 0 already"):
        len(CaptionDataset(karpathy(folder, [image, image]), root=folder))


def test_captions_keep_their_underscores(folder: Path):
    write_lines(folder, [json.dumps({"image": "a/0.png", "captions": ["see file_1.txt; it is odd"]})])
    dataset = CaptionDataset("captions.jsonl", root=folder, test_mode=True)
    assert dataset.vocabulary.class_names == ("see file_1.txt; it is odd",)


def test_unusual_texts_pass(folder: Path):
    captions = [
        "cats &amp; dogs &amp;quot;",
        "кот на диване",
        "一只猫\u2028在沙发上",
        "word " * 500,
        "half \ud83d of one",
    ]
    write_lines(folder, [json.dumps({"image": "a/0.png", "captions": captions[:3]}, ensure_ascii=False)])
    assert CaptionDataset("captions.jsonl", root=folder, num_captions=3, caption="first")[0]["sample"].captions == (
        'cats & dogs "',
        "кот на диване",
        "一只猫\u2028在沙发上",
    )
    write_lines(folder, [json.dumps({"image": "a/0.png", "captions": captions[3:]})])
    dataset = CaptionDataset("captions.jsonl", root=folder, num_captions=2, caption="first")
    assert dataset[0]["sample"].captions == ("word " * 500, "half \ufffd of one")
    write_lines(folder, [json.dumps({"image": "a/0.png", "captions": ["&nbsp;"]})])
    with pytest.raises(ValueError, match="captions that are non-empty strings, got '&nbsp;'"):
        len(CaptionDataset("captions.jsonl", root=folder))


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("a" + "&#" + "1" * 5000 + ";b", "a\ufffdb"),
        ("a &#" + "0" * 5000 + "65; b &#0000000065 c", "a A b A c"),
        ("a &amp;#" + "1" * 5000 + "; b", "a \ufffd b"),
        ("a &amp;#" + "0" * 5000 + "65; b", "a A b"),
        ("a &#x" + "0" * 5000 + "41; b", "a A b"),
        ("a &#1114111; &#1114112; &#99999999; b", "a  \ufffd \ufffd b"),
        ("a &#" + "0" * 5000 + "; b", "a \ufffd b"),
    ],
    ids=["digits", "zeros", "digits, twice", "zeros, twice", "hexadecimal", "last character", "zero"],
)
def test_entities_of_any_number_are_replaced(folder: Path, caption: str, cleaned: str):
    write_lines(folder, [json.dumps({"image": "a/0.png", "captions": [caption]})])
    assert CaptionDataset("captions.jsonl", root=folder)[0]["sample"].captions == (cleaned,)


@pytest.mark.parametrize("caption", ["\u200b", " \u200d\t", "\ufeff\u2028", "&#8203;", "&amp;#x200b;\n"])
def test_a_caption_that_nobody_can_see_is_named_by_its_line(folder: Path, caption: str):
    write_lines(folder, [json.dumps(RECORDS[0]), json.dumps({"image": "a/1.png", "captions": ["a cat", caption]})])
    for test_mode in (False, True):
        with pytest.raises(ValueError, match=r"captions\.jsonl:2: expected captions that are non-empty strings, got "):
            len(CaptionDataset("captions.jsonl", root=folder, test_mode=test_mode))


@pytest.mark.parametrize("cache_images", [False, True])
def test_an_image_with_fewer_captions_repeats_them(folder: Path, cache_images: bool):
    dataset = CaptionDataset("captions.jsonl", root=folder, num_captions=3, loading=dict(cache_images=cache_images))
    assert {len(set(dataset[0]["sample"].captions)) for _ in range(20)} == {3}
    for _ in range(20):
        first, second, third = dataset[1]["sample"].captions
        assert first == third != second
    assert dataset[2]["sample"].captions == ("a blue star",) * 3
    with pytest.raises(ValueError, match="num_captions: expected at least 1, got 0"):
        CaptionDataset("captions.jsonl", root=folder, num_captions=0)


def test_transforms_see_the_caption_that_was_picked(folder: Path):
    seen = []

    def look(results):
        seen.append(tuple(results["captions"]))
        return results

    pipeline = [LoadImage(), look, PackSample()]
    dataset = CaptionDataset("captions.jsonl", pipeline, root=folder, loading=dict(cache_images=True))
    drawn = [dataset[0]["sample"].captions for _ in range(10)]
    assert drawn == seen and len(set(drawn)) > 1
