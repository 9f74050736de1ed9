"""Captions with boxes of their phrases: three formats, one form of sample, an error for each thing that is wrong."""

import copy
import json
import logging
import random
import unicodedata

import cv2
import numpy as np
import pytest
import torch
from grounding_folder import (
    CAPTIONS,
    DOGS,
    HORSE,
    IDS,
    MAN,
    MAN_2,
    coco_content,
    entities_xml,
    odvg_records,
    write_captioned_coco,
    write_entities,
    write_images,
    write_odvg,
)
from test_spoilt_annotations import check, damaged, spoilt

from openvocab.datasets import GroundingDataset
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.prompt import Prompt


def _odvg(tmp_path, **options):
    return GroundingDataset("images", write_odvg(tmp_path).name, root=tmp_path, **options)


WRITERS = {
    "ODVG": lambda folder: write_odvg(folder).name,
    "COCO": lambda folder: write_captioned_coco(folder).name,
    "Entities": lambda folder: write_entities(folder).name,
}


# ---- the formats ----


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_samples(tmp_path, form):
    dataset = GroundingDataset("images", WRITERS[form](tmp_path), root=tmp_path, test_mode=True)
    samples = [dataset[index]["sample"] for index in range(len(dataset))]
    first, second = [sample for sample in samples if sample.prompt.text in CAPTIONS]
    assert first.prompt == Prompt(CAPTIONS[0], (((0, 5),), ((12, 25),)), (0, 1))
    assert first.vocabulary.class_names == ("A man", "a brown horse")
    assert first.instances.boxes.tolist() == [MAN, HORSE] and first.instances.classes.tolist() == [0, 1]
    assert second.prompt.phrase_texts == ("Two dogs", "a man"), "a phrase without boxes is kept"
    assert second.instances.boxes.tolist() == DOGS and second.instances.classes.tolist() == [0, 0]
    assert second.image_path.endswith(f"{IDS[1]}.jpg") and second.original_size == (40, 60)


@pytest.mark.parametrize("form", WRITERS)
def test_boxes_without_a_phrase_are_dropped_and_counted(tmp_path, form, caplog):
    with caplog.at_level(logging.INFO):
        dataset = GroundingDataset("images", WRITERS[form](tmp_path), root=tmp_path)
        boxes = [dataset[index]["sample"].instances.boxes.tolist() for index in range(len(dataset))]
    assert MAN_2 not in [box for of_image in boxes for box in of_image]
    (line,) = [record.message for record in caplog.records if "captions of" in record.message]
    assert "2 captions of 2 images, 4 phrases, 4 boxes" in line and "1 boxes without a phrase dropped" in line


def test_an_entity_that_is_mentioned_twice_has_its_boxes_twice_and_types_are_kept(tmp_path):
    root = write_entities(tmp_path)
    text = "[/EN#1/bodyparts/people A man 's arm] and [/EN#1/people his hand]\n"
    (root / f"Sentences/{IDS[0]}.txt").write_text(text)
    dataset = GroundingDataset("images", "entities", root=tmp_path)
    sample = dataset[0]["sample"]
    assert sample.prompt.text == "A man 's arm and his hand"
    assert sample.prompt.phrase_texts == ("A man 's arm", "his hand")
    assert sample.instances.boxes.tolist() == [MAN, MAN] and sample.instances.classes.tolist() == [0, 1]
    assert sample.phrase_types == (("bodyparts", "people"), ("people",))
    assert dataset.metainfo["phrase_types"] == ["animals", "bodyparts", "people"]


def test_sentences_without_boxes_are_kept_at_evaluation_only(tmp_path):
    write_entities(tmp_path)
    ids = [[d.sample_id_of(i) for i in range(len(d))] for d in (
        GroundingDataset("images", "entities", root=tmp_path, test_mode=mode) for mode in (False, True)
    )]  # fmt: skip
    assert ids == [["1007#0", "2003#0"], ["1007#0", "1007#1", "2003#0"]]


def test_keys_choose_the_images_of_a_part(tmp_path):
    write_entities(tmp_path)
    (tmp_path / "test.txt").write_text("2003\n")
    dataset = GroundingDataset("images", "entities", root=tmp_path, keys="test.txt")
    assert [dataset.sample_id_of(index) for index in range(len(dataset))] == ["2003#0"]


def test_folders_by_source(tmp_path):
    path = write_captioned_coco(tmp_path)
    (tmp_path / "vg").mkdir()
    (tmp_path / f"images/{IDS[1]}.jpg").rename(tmp_path / f"vg/{IDS[1]}.jpg")
    dataset = GroundingDataset({"coco": "images", "vg": "vg"}, path.name, root=tmp_path)
    assert [item["sample"].image_path.split("/")[-2] for item in dataset] == ["images", "vg"]
    with pytest.raises(ValueError, match="image 1: data_source: expected one of coco, got 'vg'"):
        GroundingDataset({"coco": "images"}, path.name, root=tmp_path).full_init()


def test_a_whole_caption_is_one_phrase_with_all_boxes(tmp_path):
    sample = _odvg(tmp_path, whole_captions=True)[0]["sample"]
    assert sample.prompt.phrase_texts == (CAPTIONS[0],) and sample.instances.classes.tolist() == [0, 0]


def test_captions_with_a_phrase_of_a_type(tmp_path):
    records = odvg_records()
    del records[1]["grounding"]["regions"][1:]
    write_odvg(tmp_path, records)
    dataset = GroundingDataset("images", "grounding.jsonl", root=tmp_path, phrase_type="people")
    assert len(dataset) == 1 and dataset[0]["sample"].instances.boxes.tolist() == [MAN, HORSE]
    with pytest.raises(ValueError, match=r"phrase_type: no phrase .* 'cars'; expected one of \['animals', 'people'\]"):
        GroundingDataset("images", "grounding.jsonl", root=tmp_path, phrase_type="cars").full_init()


def test_regions_of_the_same_characters_are_one_phrase(tmp_path):
    records = odvg_records()
    records[0]["grounding"]["regions"][1]["tokens_positive"] = [[0, 5]]
    write_odvg(tmp_path, records)
    sample = GroundingDataset("images", "grounding.jsonl", root=tmp_path)[0]["sample"]
    assert len(sample.prompt) == 1 and sample.instances.classes.tolist() == [0, 0]
    assert sample.phrase_types == (("people", "animals"),)


def test_a_phrase_without_characters_is_found_if_the_caption_holds_it_once(tmp_path):
    records = odvg_records()
    del records[0]["grounding"]["regions"][1]["tokens_positive"]
    write_odvg(tmp_path, records)
    sample = GroundingDataset("images", "grounding.jsonl", root=tmp_path)[0]["sample"]
    assert sample.prompt.phrases == (((0, 5),), ((12, 25),))
    records[0]["grounding"]["caption"] = "a brown horse and a brown horse"
    write_odvg(tmp_path, records)
    with pytest.raises(ValueError, match=r"jsonl:1: region 1: the caption holds the phrase 'a brown horse' 2 times"):
        GroundingDataset("images", "grounding.jsonl", root=tmp_path).full_init()


def test_sizes_that_are_not_stated_are_read_from_the_images(tmp_path):
    records = odvg_records()
    for record in records:
        del record["height"], record["width"]
    write_odvg(tmp_path, records)
    assert GroundingDataset("images", "grounding.jsonl", root=tmp_path)[0]["sample"].original_size == (40, 60)


def test_control_characters_become_spaces_at_their_position(tmp_path):
    records = odvg_records()
    records[0]["grounding"]["caption"] = "A\tman\nrides a brown\x07horse ."
    write_odvg(tmp_path, records)
    sample = GroundingDataset("images", "grounding.jsonl", root=tmp_path)[0]["sample"]
    assert sample.prompt.phrase_texts == ("A man", "a brown horse")


def test_detection_records_have_the_classes_of_the_label_map(tmp_path):
    records = odvg_records()
    records[1] = {**records[1], "detection": {"instances": [{"bbox": DOGS[0], "label": 7, "category": "dog"}]}}
    del records[1]["grounding"]
    write_odvg(tmp_path, records)
    (tmp_path / "names.json").write_text('{"7": "dog", "3": "cat"}')
    dataset = GroundingDataset("images", "grounding.jsonl", root=tmp_path, label_map="names.json")
    caption, classes = (dataset[index]["sample"] for index in range(2))
    assert caption.prompt is not None and classes.prompt is None
    assert classes.vocabulary.class_names == ("cat", "dog") and classes.instances.classes.tolist() == [1]
    assert dataset.vocabulary.class_names == ("cat", "dog")
    with pytest.raises(ValueError, match=r"jsonl:2: a 'detection' record, .* give label_map"):
        GroundingDataset("images", "grounding.jsonl", root=tmp_path).full_init()


# ---- wrong input ----


WRONG_REGIONS = {
    "characters 0 to 99 are not inside": {"tokens_positive": [[0, 99]]},
    "characters -1 to 3 are not inside": {"tokens_positive": [[-1, 3]]},
    "characters 5 to 6 .* are blank": {"tokens_positive": [[5, 6]]},
    r"expected \[\[begin, end\], ...\] in characters": {"tokens_positive": [0, 5]},
    "tokens_positive: expected": {"tokens_positive": "0-5"},
    "region 0: bbox: expected 4 numbers": {"bbox": [1, 2, 3]},
    "region 0: type: expected a text": {"type": 3},
}


@pytest.mark.parametrize("message", WRONG_REGIONS)
def test_a_wrong_region_is_named_with_its_line(tmp_path, message):
    records = odvg_records()
    records[0]["grounding"]["regions"][0].update(WRONG_REGIONS[message])
    write_odvg(tmp_path, records)
    with pytest.raises(ValueError, match=rf"grounding\.jsonl:1.*{message}") as error:
        GroundingDataset("images", "grounding.jsonl", root=tmp_path).full_init()
    assert "\n" not in str(error.value)


def test_a_wrong_span_of_coco_json_is_named_with_its_id(tmp_path):
    content = coco_content()
    content["annotations"][1]["tokens_positive"] = [[20, 90]]
    write_captioned_coco(tmp_path, content)
    with pytest.raises(ValueError, match=r"grounding\.json: image 0: phrase 0: characters 20 to 90 are not inside"):
        GroundingDataset("images", "grounding.json", root=tmp_path).full_init()


def test_unusable_boxes_are_dropped_and_their_phrase_stays(tmp_path, caplog):
    records = odvg_records()
    records[0]["grounding"]["regions"][0]["bbox"] = [[5, 5, 5, 30], [float("nan"), 0, 1, 1], [100, 0, 120, 9]]
    write_odvg(tmp_path, records)
    with caplog.at_level(logging.INFO):
        sample = GroundingDataset("images", "grounding.jsonl", root=tmp_path)[0]["sample"]
    assert len(sample.prompt) == 2 and sample.instances.classes.tolist() == [1]
    assert "1 boxes of zero or negative size dropped" in caplog.text and "not finite dropped" in caplog.text


def test_arguments_that_do_not_fit_the_format(tmp_path):
    write_odvg(tmp_path)
    write_entities(tmp_path)
    for options, message in (
        (dict(annotations="grounding.jsonl", keys="a.txt"), "keys is for Flickr30k Entities"),
        (dict(annotations="entities", label_map="a.json"), "label_map is for ODVG JSON lines"),
        (dict(annotations="entities", images={"vg": "images"}), "images: a dict of folders is for COCO JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            GroundingDataset(**{"images": "images", "root": tmp_path, **options}).full_init()
    for annotations in ("nothing.jsonl", "nothing.json"):
        with pytest.raises(FileNotFoundError, match="annotations: no file"):
            GroundingDataset("images", annotations, root=tmp_path).full_init()
    with pytest.raises(FileNotFoundError, match="annotations: .*no folder Sentences"):
        GroundingDataset("images", "images", root=tmp_path).full_init()
    with pytest.raises(FileNotFoundError, match="images: no file .*elsewhere"):
        GroundingDataset("elsewhere", "grounding.jsonl", root=tmp_path).full_init()


def test_a_broken_file_of_one_image_can_be_skipped(tmp_path):
    root = write_entities(tmp_path)
    (root / f"Annotations/{IDS[0]}.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><annotation>&a;</annotation>')
    with pytest.raises(BadSample, match="declares the entity"):
        GroundingDataset("images", "entities", root=tmp_path).full_init()
    dataset = GroundingDataset("images", "entities", root=tmp_path, loading=dict(bad_samples="skip", max_bad_share=0.6))
    assert len(dataset) == 1 and dataset.bad_sample_count == 1
    (root / f"Annotations/{IDS[0]}.xml").write_text(entities_xml([]))
    (root / f"Sentences/{IDS[0]}.txt").write_text("[/EN#1/people A [man]")
    with pytest.raises(BadSample, match="line 1: a phrase that is not marked"):
        GroundingDataset("images", "entities", root=tmp_path).full_init()


@pytest.mark.parametrize("seed", range(120))
def test_any_damage_to_json_is_one_line_that_names_the_file(tmp_path, seed):
    choose = random.Random(seed)
    write_images(tmp_path)
    if seed % 2:
        records = odvg_records()
        records[0] = spoilt(records[0], choose)
        path, content = tmp_path / "grounding.jsonl", "".join(json.dumps(record) + "\n" for record in records)
    else:
        path, content = tmp_path / "grounding.json", json.dumps(spoilt(coco_content(), choose))
    path.write_bytes(damaged(content.encode(), choose))
    check(lambda: GroundingDataset("images", path.name, root=tmp_path, test_mode=True), path.name, ".jpg", "images")


# ---- transforms ----


def _flipped(tmp_path, caption):
    records = odvg_records()[:1]
    records[0]["grounding"]["caption"] = caption
    write_odvg(tmp_path, records)
    cv2.imwrite(str(tmp_path / f"images/{IDS[0]}.jpg"), np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1)))
    pipeline = [LoadImage(), LoadInstances(), RandomFlip(prob=1.0), PackSample()]
    return GroundingDataset("images", "grounding.jsonl", pipeline, root=tmp_path)[0]


@pytest.mark.parametrize("caption", ["A man rides a brown horse on the left", "A man, to the Right of a horse"])
def test_an_image_whose_caption_names_a_side_is_not_mirrored(tmp_path, caption):
    item = _flipped(tmp_path, caption)
    assert item["sample"].instances.boxes[0].tolist() == MAN and item["image"][0, 0, 0] < item["image"][0, 0, -1]


@pytest.mark.parametrize("caption", ["A man rides a brown horse", "A man, brightly lit, at a cleft"])
def test_others_are_mirrored_with_their_boxes(tmp_path, caption):
    item = _flipped(tmp_path, caption)
    assert item["sample"].instances.boxes[0].tolist() == [40, 5, 55, 30] and item["image"][0, 0, 0] > 200


def test_samples_go_through_worker_processes(tmp_path):
    loader = torch.utils.data.DataLoader(_odvg(tmp_path), num_workers=1, collate_fn=lambda items: items[0])
    assert [item["sample"].prompt.text for item in loader] == list(CAPTIONS)


def test_the_index_does_not_change_when_it_is_read_again(tmp_path):
    dataset = _odvg(tmp_path)
    before = copy.deepcopy(dataset[0]["sample"].prompt)
    assert dataset[0]["sample"].prompt == before


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_to_flickr30k_entities_is_one_line_that_names_the_file(tmp_path, seed):
    choose = random.Random(seed)
    root = write_entities(tmp_path)
    path = choose.choice(sorted(root.rglob("*.*")))
    text = path.read_text()
    for _ in range(choose.randrange(1, 4)):
        begin = choose.randrange(len(text))
        text = (
            text[:begin]
            + choose.choice(["", "[", "]", "/EN#", "<", "1e999", "\0", "é"])
            + text[begin + choose.randrange(9) :]
        )
    path.write_bytes(damaged(text.encode(), choose))
    check(lambda: GroundingDataset("images", "entities", root=tmp_path, test_mode=True), path.name, ".jpg", "images")


def test_an_id_that_is_listed_twice_is_an_error(tmp_path):
    write_entities(tmp_path)
    (tmp_path / "test.txt").write_text("2003\n1007\n2003\n")
    with pytest.raises(ValueError, match="keys: '2003' is listed 2 times"):
        GroundingDataset("images", "entities", root=tmp_path, keys="test.txt").full_init()


def test_an_accent_may_be_encoded_in_two_ways(tmp_path):
    records = odvg_records()[:1]
    records[0]["filename"] = unicodedata.normalize("NFC", "café.jpg")
    write_odvg(tmp_path, records)
    name = unicodedata.normalize("NFD", "café.jpg")
    (tmp_path / f"images/{IDS[0]}.jpg").rename(tmp_path / "images" / name)
    assert GroundingDataset("images", "grounding.jsonl", root=tmp_path)[0]["sample"].image_path.endswith(name)
