"""SegmentationDataset on folders as users have them, and on real COCO images."""

import json
import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from openvocab.datasets.files import label_survey
from openvocab.datasets.files.label_table import LabelTable
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, RandomFlip, RandomScaleCrop
from openvocab.images.image_io import BadSample
from openvocab.seeding import DrawIndex

CLASSES = ["wall", "floor", "cat", "dog"]


def _write(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


@pytest.fixture
def folder(tmp_path):
    """Six images 20 x 30 and their masks; ids 0..3 and 255."""
    generator = np.random.default_rng(0)
    for number in range(6):
        _write(tmp_path / f"images/{number}.jpg", generator.integers(0, 255, (20, 30, 3)))
        _write(tmp_path / f"masks/{number}.png", generator.choice([0, 1, 2, 3, 255], (20, 30)).astype(np.uint8))
    return tmp_path


def _mask(folder, number: int = 0) -> np.ndarray:
    return cv2.imread(str(folder / f"masks/{number}.png"), cv2.IMREAD_UNCHANGED)


def _labels(dataset, number: int = 0) -> np.ndarray:
    return dataset[number]["sample"].label_map.numpy()


def test_three_arguments_are_enough(folder):
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES)
    item = dataset[2]
    sample = item["sample"]
    assert len(dataset) == 6
    assert item["image"].shape == (3, 20, 30) and item["image"].dtype == torch.uint8
    assert np.array_equal(sample.label_map.numpy(), _mask(folder, 2))
    assert sample.vocabulary.class_names == tuple(CLASSES)
    assert (sample.sample_id, sample.original_size, sample.input_size) == ("2", (20, 30), (20, 30))


def test_a_names_file_and_a_root_do_as_well(folder):
    (folder / "names.txt").write_text("wall\nfloor\ncat; kitten\ndog\n")
    dataset = SegmentationDataset("images", "masks", "names.txt", root=folder)
    assert dataset.vocabulary.synonyms[2] == ("cat", "kitten")
    assert len(dataset) == 6


def test_a_data_set_is_named_after_its_place_unless_it_is_given_a_name(folder):
    (folder / "val.txt").write_text("1\n")
    place = folder.name
    for options, name in (
        ({}, f"{place}/masks"),
        ({"keys": "val.txt"}, f"{place}/val.txt"),
        ({"name": "mine"}, "mine"),
    ):
        assert SegmentationDataset("images", "masks", CLASSES, root=folder, **options).metainfo["dataset"] == name
    assert SegmentationDataset("images", None, CLASSES, root=folder).name == f"{place}/images"
    assert SegmentationDataset(folder / "images", folder / "masks", CLASSES).name == "SegmentationDataset"


def test_missing_folders_name_their_argument(folder):
    with pytest.raises(FileNotFoundError, match="images: no folder .*absent"):
        len(SegmentationDataset(folder / "absent", folder / "masks", CLASSES))
    with pytest.raises(FileNotFoundError, match="annotations: no folder .*absent"):
        len(SegmentationDataset(folder / "images", folder / "absent", CLASSES))
    with pytest.raises(ValueError, match="absent"):
        len(SegmentationDataset(folder / "images", folder / "masks", "absent.txt").vocabulary)


def test_images_without_label_map_are_refused_or_left_out(folder):
    (folder / "masks/3.png").unlink()
    with pytest.raises(
        FileNotFoundError, match="1 of 6 images have no label map.*3.jpg.*annotation_suffix.*require_annotations"
    ):
        len(SegmentationDataset(folder / "images", folder / "masks", CLASSES))
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES, pairing=dict(require_annotations=False))
    assert [dataset[i]["sample"].sample_id for i in range(len(dataset))] == ["0", "1", "2", "4", "5"]


def test_label_map_without_image_is_refused(folder):
    (folder / "images/3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no image.*masks/3.png.*annotation_suffix"):
        len(SegmentationDataset(folder / "images", folder / "masks", CLASSES, pairing=dict(require_annotations=False)))


def test_images_without_the_suffix_are_no_samples(folder):
    with pytest.raises(
        ValueError, match="images: no samples found: .* whose stem ends in pairing=dict\\(image_suffix='_photo'\\)"
    ):
        len(SegmentationDataset("images", "masks", CLASSES, root=folder, pairing=dict(image_suffix="_photo")))


@pytest.mark.parametrize("argument", ["classes", "unseen"])
def test_a_list_or_split_that_is_not_there_names_its_argument(folder, argument):
    wrong = {argument: "nothing.here"}
    options = {"classes": CLASSES, "class_options": wrong} if argument == "unseen" else wrong
    with pytest.raises(ValueError, match=f"{argument}: no .* 'nothing.here' and no such file; known: "):
        len(SegmentationDataset("images", "masks", root=folder, **options).vocabulary)


def test_no_annotations_give_images_alone(folder):
    dataset = SegmentationDataset(folder / "images", None, CLASSES)
    assert dataset[0]["sample"].label_map is None


def test_keys_choose_the_samples(folder):
    (folder / "val.txt").write_text("4\n1\n")
    dataset = SegmentationDataset("images", "masks", CLASSES, root=folder, keys="val.txt")
    assert [dataset[i]["sample"].sample_id for i in range(2)] == ["4", "1"]
    (folder / "val.txt").write_text("4\nabsent\n")
    with pytest.raises(FileNotFoundError, match="'absent'"):
        len(SegmentationDataset("images", "masks", CLASSES, root=folder, keys="val.txt"))


def test_suffixes_and_subfolders_as_in_cityscapes(tmp_path):
    _write(tmp_path / "leftImg8bit/bonn/bonn_1_leftImg8bit.png", np.zeros((4, 6, 3), np.uint8))
    _write(
        tmp_path / "gtFine/bonn/bonn_1_gtFine_labelIds.png",
        np.array([[7, 8], [4, 33]], np.uint8).repeat(2, 0).repeat(3, 1),
    )
    _write(tmp_path / "gtFine/bonn/bonn_1_gtFine_color.png", np.zeros((4, 6, 3), np.uint8))
    dataset = SegmentationDataset(
        "leftImg8bit",
        "gtFine",
        ["road", "sidewalk", "bicycle"],
        root=tmp_path,
        pairing=dict(image_suffix="_leftImg8bit", annotation_suffix="_gtFine_labelIds"),
        labels=dict(label_ids=[7, 8, 33], unlisted_ids="ignore"),
    )
    assert dataset[0]["sample"].sample_id == "bonn/bonn_1"
    assert _labels(dataset)[::2, ::3].tolist() == [[0, 1], [255, 2]]


def test_reduce_zero_label_shifts_ids(folder):
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES[1:], labels=dict(reduce_zero_label=True))
    ids = _mask(folder)
    expected = np.where((ids == 0) | (ids == 255), 255, ids.astype(int) - 1)
    assert np.array_equal(_labels(dataset), expected)


def test_ids_with_holes_by_dict(folder):
    dataset = SegmentationDataset(
        folder / "images",
        folder / "masks",
        ["pet", "wall"],
        labels=dict(label_ids={0: 1, 2: 0, 3: 0}, ignored_ids=[1, 255]),
    )
    expected = np.select([np.isin(_mask(folder), [2, 3]), _mask(folder) == 0], [0, 1], 255)
    assert np.array_equal(_labels(dataset), expected)


def test_unknown_ids_name_the_file_and_the_ids(folder):
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES[:2])
    with pytest.raises(BadSample, match=r"masks/0.png: label ids outside the 2 classes: 2, 3; label_ids, ignored_ids"):
        dataset[0]
    with pytest.raises(BadSample, match="outside the 4 classes: 255"):
        SegmentationDataset(folder / "images", folder / "masks", CLASSES, labels=dict(ignored_ids=[]))[0]


def test_label_ids_that_do_not_fit_are_refused(folder):
    with pytest.raises(ValueError, match="expected 4, one per class, got 2"):
        SegmentationDataset(folder / "images", folder / "masks", CLASSES, labels=dict(label_ids=[0, 1]))[0]
    with pytest.raises(ValueError, match="class indices below 4, got {0: 255}; omit"):
        SegmentationDataset(folder / "images", folder / "masks", CLASSES, labels=dict(label_ids={0: 255}))[0]


def test_ids_may_be_of_any_type_that_states_a_whole_number(folder):
    expected = np.select([_mask(folder) == 3, _mask(folder) == 0], [0, 1], 255)
    for label_ids in ([3, 0], [3.0, "0"], np.array([3, 0]), {"3": 0, "0": 1.0}):
        options = dict(labels=dict(label_ids=label_ids, ignored_ids=(1, np.uint8(2), 255.0)))
        dataset = SegmentationDataset(folder / "images", folder / "masks", ["dog", "wall"], **options)
        assert np.array_equal(_labels(dataset), expected)


def test_numbers_of_images_and_classes_are_logged(folder, logged):
    len(SegmentationDataset("images", "masks", CLASSES, root=folder))
    len(SegmentationDataset("images", None, CLASSES, root=folder))
    assert [(record.levelname, record.getMessage()) for record in logged] == [
        ("INFO", f"{folder.name}/masks: 6 images, 4 classes"),
        ("INFO", f"{folder.name}/images: 6 images, no label maps, 4 classes"),
    ]


def test_classes_without_a_pixel_are_named_before_training(folder, logged):
    _write(folder / "masks/5.png", np.full((20, 30), 255, np.uint8))
    len(SegmentationDataset("images", "masks", [*CLASSES, "lion", "sky"], root=folder))
    (record,) = logged
    assert record.levelname == "WARNING"
    assert "6 images, 6 classes; 2 of the classes have no pixel in the 6 label maps: lion, sky; " in record.getMessage()
    assert re.search("3[0-9] % of the pixels are unlabeled, id 255; label_ids, ignored_ids", record.getMessage())


def test_reduced_ids_of_maps_that_count_from_0_leave_the_last_class_out_with_a_word(folder, logged):
    len(SegmentationDataset("images", "masks", CLASSES, root=folder, labels=dict(reduce_zero_label=True)))
    assert "1 of the classes have no pixel in the 6 label maps: dog;" in logged[0].getMessage()
    assert "unlabeled, id 0, 255; label_ids, ignored_ids, reduce_zero_label" in logged[0].getMessage()


def test_a_sample_smaller_than_the_class_list_is_no_reason_for_a_warning(folder, logged, monkeypatch):
    monkeypatch.setattr(label_survey, "MAX_MAPS", 5)
    names = [f"class {number}" for number in range(6)]
    len(SegmentationDataset("images", "masks", names, root=folder))
    len(SegmentationDataset("images", "masks", names[:5], root=folder))
    assert [record.levelname for record in logged] == ["INFO", "WARNING"]
    assert "2 of the classes have no pixel in 5 label maps read as a sample: class 4, class 5" in logged[0].getMessage()


def test_broken_label_maps_wait_for_their_turn(folder):
    (folder / "masks/0.png").write_text("no image")
    dataset = SegmentationDataset("images", "masks", CLASSES, root=folder)
    assert len(dataset) == 6
    with pytest.raises(BadSample, match="masks/0.png"):
        dataset[0]


@pytest.fixture
def binary(folder):
    for number in range(6):
        _write(folder / f"masks/{number}.png", np.where(_mask(folder, number) == 1, 255, 0).astype(np.uint8))
    return folder


@pytest.mark.parametrize(
    ("classes", "advice"),
    [
        (["ground", "crack"], dict(label_ids=[0, 255], ignored_ids=[])),
        (["crack"], dict(label_ids=[255], ignored_ids=[0])),
    ],
)
def test_masks_of_0_and_255_need_a_word_on_255(binary, classes, advice):
    spelled = f"labels=dict({', '.join(f'{key}={value}' for key, value in advice.items())})"
    with pytest.raises(
        ValueError, match=re.escape(f"ids 0 and 255 only; if 255 is 'crack', give {spelled}; if it is unlabeled")
    ):
        len(SegmentationDataset("images", "masks", classes, root=binary))
    as_class = SegmentationDataset("images", "masks", classes, root=binary, labels=advice)
    is_crack = _mask(binary) == 255
    assert np.array_equal(_labels(as_class) == len(classes) - 1, is_crack)
    unlabeled = SegmentationDataset("images", "masks", classes, root=binary, labels=dict(ignored_ids=[255]))
    assert np.array_equal(_labels(unlabeled), np.where(is_crack, 255, 0))


def test_masks_of_0_and_255_beside_more_classes_are_a_warning(binary, logged):
    len(SegmentationDataset("images", "masks", CLASSES, root=binary))
    assert logged[0].levelname == "WARNING" and "3 of the classes have no pixel" in logged[0].getMessage()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(labels=dict(label_ids={0: 0, 1: 1, 2: 2, 255: 3})),
            "label id 255 is a class and ignored too; label_ids, ignored_ids",
        ),
        (dict(labels=dict(ignored_ids=[3, 255])), "label id 3 is a class and ignored too"),
        (dict(labels=dict(label_ids=[0, 1, 2, 3], reduce_zero_label=True)), "label id 0 is a class and ignored too"),
        (dict(labels=dict(label_ids=[0, 1, 2, 1])), "label_ids: id 1 is given for two classes"),
        (
            dict(labels=dict(ignored_ids=[3]), class_options=dict(unseen=["dog"], train_classes="seen")),
            "label id 3 is a class and ignored too",
        ),
        (dict(labels=dict(label_ids={0: 0, "0": 1})), "label_ids: id 0 is given for two classes"),
        (dict(labels=dict(label_ids={"wall": 0})), "label_ids: expected a whole number, got 'wall'"),
        (dict(labels=dict(ignored_ids=255)), "ignored_ids: expected a list of whole numbers, got 255"),
        (dict(labels=dict(ignored_ids=[255.5])), "ignored_ids: expected a whole number, got 255.5"),
        (dict(labels=dict(ignored_ids=[-1])), "label id -1 -> ignored: expected ids below 65536"),
    ],
)
def test_an_id_has_one_meaning(folder, options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationDataset("images", "masks", CLASSES, root=folder, **options)[0]


def test_mask_of_another_size_is_bad(folder):
    _write(folder / "masks/0.png", np.zeros((20, 31), np.uint8))
    with pytest.raises(BadSample, match=r"masks/0.png.*20x31.*20x30"):
        SegmentationDataset(folder / "images", folder / "masks", CLASSES)[0]


def test_seen_classes_only_in_training(folder):
    (folder / "split.json").write_text(json.dumps({"seen": ["wall"], "unseen": ["floor", "dog"]}))
    options = dict(unseen="split.json", background="wall")
    full = SegmentationDataset("images", "masks", CLASSES, root=folder, class_options=options)
    options = dict(train_classes="seen", **options)
    seen = SegmentationDataset("images", "masks", CLASSES, root=folder, class_options=options)
    assert full.vocabulary.seen == (True, False, True, False)
    assert seen.vocabulary.class_names == ("wall", "cat") and seen.vocabulary.background == 0
    ids = _mask(folder)
    assert np.array_equal(_labels(full), ids)
    assert np.array_equal(_labels(seen), np.select([ids == 0, ids == 2], [0, 1], 255))


def test_more_than_254_classes_use_16_bits(tmp_path):
    names = [f"class {i}" for i in range(847)]
    ids = np.array([[0, 255, 846, 65535]], np.uint16)
    _write(tmp_path / "images/a.png", np.zeros((1, 4, 3), np.uint8))
    _write(tmp_path / "masks/a.tif", ids)
    pipeline = [LoadImage(), LoadLabels(), RandomScaleCrop((2, 6), ratio=(1, 1)), PackSample()]
    dataset = SegmentationDataset(tmp_path / "images", tmp_path / "masks", names)
    assert _labels(dataset).tolist() == ids.tolist()
    padded = SegmentationDataset(tmp_path / "images", tmp_path / "masks", names, pipeline)
    assert _labels(padded).tolist() == [[0, 255, 846, 65535, 65535, 65535], [65535] * 6]


def test_more_classes_than_label_files_hold_are_refused():
    assert LabelTable({0: 65533}, (65535,), 65534, ignore_unlisted=True).dtype == np.uint16
    with pytest.raises(ValueError, match="at most 65534 classes, got 65535"):
        LabelTable({}, (), 65535, ignore_unlisted=True)


def test_skip_replaces_by_index_alone_and_lists(folder, monkeypatch):
    (folder / "images/2.jpg").write_bytes(b"")
    options = dict(loading=dict(bad_samples="skip", max_bad_share=0.5))
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES, **options)
    other = SegmentationDataset(folder / "images", folder / "masks", CLASSES, **options)
    order = [dataset[i]["sample"].sample_id for i in range(6)]
    assert order == [other[i]["sample"].sample_id for i in (5, 4, 3, 2, 1, 0)][::-1]
    assert order[2] != "2" and order[:2] + order[3:] == ["0", "1", "3", "4", "5"]
    assert dataset.bad_sample_paths == [str(folder / "images/2.jpg")]


def test_too_many_bad_samples_stop(folder):
    for number in (0, 1):
        (folder / f"images/{number}.jpg").write_text("text")
    dataset = SegmentationDataset(
        folder / "images", folder / "masks", CLASSES, loading=dict(bad_samples="skip", max_bad_share=0.2)
    )
    dataset[0]
    with pytest.raises(ValueError, match="2 of 6 samples are bad.*\n.*0.jpg\n.*1.jpg"):
        dataset[1]


def test_bad_samples_of_workers_are_listed(folder):
    (folder / "images/2.jpg").write_bytes(b"")
    dataset = SegmentationDataset(
        folder / "images", folder / "masks", CLASSES, loading=dict(bad_samples="skip", max_bad_share=0.5)
    )
    dataset.full_init()  # as the runner does, before workers start
    loader = torch.utils.data.DataLoader(dataset, batch_size=3, num_workers=2, collate_fn=list)
    assert sum(len(batch) for batch in loader) == 6
    assert dataset.bad_sample_paths == [str(folder / "images/2.jpg")]


def test_default_policy_raises_and_evaluation_never_skips(folder):
    (folder / "images/2.jpg").write_bytes(b"")
    with pytest.raises(BadSample, match="2.jpg: the file is empty"):
        SegmentationDataset(folder / "images", folder / "masks", CLASSES)[2]
    with pytest.raises(ValueError, match="must not skip images"):
        SegmentationDataset(
            folder / "images", folder / "masks", CLASSES, loading=dict(bad_samples="skip"), test_mode=True
        )


def _augmented(folder, **options) -> SegmentationDataset:
    pipeline = [LoadImage(), LoadLabels(), RandomScaleCrop((16, 16), ratio=(0.5, 2)), RandomFlip(), PackSample()]
    return SegmentationDataset(folder / "images", folder / "masks", CLASSES, pipeline, **options)


def test_draw_seed_decides_augmentation_and_nothing_else(folder):
    dataset = _augmented(folder)
    np.random.seed(0)
    first, after = dataset[DrawIndex(1, 7)]["image"], np.random.rand()
    np.random.seed(0)
    assert after == np.random.rand()
    dataset[0]
    assert torch.equal(first, dataset[DrawIndex(1, 7)]["image"])
    assert not torch.equal(first, dataset[DrawIndex(1, 8)]["image"])


def test_cache_changes_nothing(folder):
    plain, cached = _augmented(folder), _augmented(folder, loading=dict(cache_images=True))
    for seed in range(3):
        for number in range(6):
            expected, got = plain[DrawIndex(number, seed)], cached[DrawIndex(number, seed)]
            assert torch.equal(expected["image"], got["image"])
            assert torch.equal(expected["sample"].label_map, got["sample"].label_map)


def test_cached_labels_are_not_handed_out(folder):
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES, loading=dict(cache_images=True))
    item = dataset[0]
    item["image"].zero_()
    item["sample"].label_map.zero_()
    assert np.array_equal(_labels(dataset), _mask(folder))
    assert dataset[0]["image"].any()


def test_data_set_travels_to_spawned_workers(folder):
    dataset = SegmentationDataset(folder / "images", folder / "masks", CLASSES)
    assert np.array_equal(_labels(pickle.loads(pickle.dumps(dataset))), _mask(folder))


def test_panoptic_png_reads_as_semantic(tmp_path):
    segments = np.array([[0, 7, 7], [70000, 70000, 7]])
    colors = np.stack([segments % 256, segments // 256 % 256, segments // 65536], axis=-1).astype(np.uint8)
    (tmp_path / "panoptic").mkdir()
    Image.fromarray(colors).save(tmp_path / "panoptic/a.png")
    _write(tmp_path / "images/a.jpg", np.zeros((2, 3, 3), np.uint8))
    listed = [{"id": 7, "category_id": 200}, {"id": 70000, "category_id": 1}]
    annotations = {"annotations": [{"file_name": "a.png", "segments_info": listed}]}
    (tmp_path / "p.json").write_text(json.dumps(annotations))
    options = dict(root=tmp_path, labels=dict(label_ids=[1, 200], ignored_ids=[0], panoptic_json="p.json"))
    dataset = SegmentationDataset("images", "panoptic", ["person", "rug"], **options)
    assert _labels(dataset).tolist() == [[255, 1, 1], [0, 0, 1]]
    del annotations["annotations"][0]["segments_info"][1]
    (tmp_path / "p.json").write_text(json.dumps(annotations))
    with pytest.raises(BadSample, match="panoptic_json does not list its segment 70000"):
        SegmentationDataset("images", "panoptic", ["person", "rug"], **options)[0]
    (tmp_path / "p.json").write_text(json.dumps({"annotations": 2 * annotations["annotations"]}))
    with pytest.raises(ValueError, match=r"annotation 1 .*a\.png was listed by an earlier annotation already"):
        SegmentationDataset("images", "panoptic", ["person", "rug"], **options)[0]


def _panoptic(folder, listed: dict[str, list[tuple[int, int]]]) -> SegmentationDataset:
    """Segment 7 on train/a.png and on val/a.png; `listed` are pairs of segment and category by file name."""
    for part in ("train", "val"):
        (folder / "panoptic" / part).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (7, 0, 0)).save(folder / f"panoptic/{part}/a.png")
        _write(folder / f"images/{part}/a.jpg", np.zeros((2, 3, 3), np.uint8))
    entries = [
        {"file_name": name, "segments_info": [{"id": own, "category_id": category} for own, category in pairs]}
        for name, pairs in listed.items()
    ]
    (folder / "p.json").write_text(json.dumps({"annotations": entries}))
    options = dict(root=folder, labels=dict(label_ids=[1, 2], ignored_ids=[0], panoptic_json="p.json"))
    return SegmentationDataset("images", "panoptic", ["person", "rug"], **options)


@pytest.mark.parametrize("start", ["", "./", "panoptic/"])
def test_a_panoptic_file_name_may_have_folders(tmp_path, start):
    dataset = _panoptic(tmp_path, {f"{start}train/a.png": [(7, 1)], f"{start}val/a.png": [(7, 2)]})
    assert [_labels(dataset, place).max() for place in (0, 1)] == [0, 1]


def test_a_panoptic_file_that_is_not_listed_is_named(tmp_path):
    dataset = _panoptic(tmp_path, {"train/a.png": [(7, 1)], "test/a.png": [(7, 2)]})
    with pytest.raises(BadSample, match=r"val/a.png: panoptic_json does not list its name, but 2 others .train/a.png"):
        [dataset[place] for place in (0, 1)]


def test_two_panoptic_files_of_one_entry_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train/a.png and .*val/a.png both match its 'a.png'; write their folders"):
        len(_panoptic(tmp_path, {"a.png": [(7, 1)]}))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [([(7, 1), (8, 1), (7, 2)], "segment 7 is listed 2 times"), ([(0, 1)], "a segment has the id 0")],
)
def test_a_panoptic_segment_is_listed_once(tmp_path, pairs, message):
    with pytest.raises(
        ValueError, match=rf"p\.json: annotation 0 \(from 0\) is not in COCO's panoptic format: {message}"
    ):
        _panoptic(tmp_path, {"a.png": pairs})[0]


def _real(shared_data, part: str, repository) -> SegmentationDataset:
    config = Config.fromfile(repository / "configs/_base_/datasets/coco_sample.py")[f"{part}_dataloader"].dataset
    config.root = str(shared_data / "coco_sample")
    config.pop("type")
    return SegmentationDataset(**config.to_dict())


def test_real_coco_panoptic_equals_its_semantic_maps(shared_data):
    root = shared_data / "coco_sample"
    categories = json.loads((root / "annotations/panoptic_categories.json").read_text())
    options = dict(
        classes=[entry["name"] for entry in categories],
        pairing=dict(require_annotations=False),
    )
    labels = dict(label_ids=[entry["id"] for entry in categories], ignored_ids=[0])
    images = root / "images/val2017"
    annotations = root / "panoptic_segmentation/annotations"
    json_path = annotations / "panoptic_val2017.json"
    panoptic = SegmentationDataset(
        images, annotations / "panoptic_val2017", labels=dict(panoptic_json=json_path, **labels), **options
    )
    semantic = SegmentationDataset(images, root / "semantic_segmentation/masks/val2017", labels=labels, **options)
    assert len(panoptic) == len(semantic) == 100
    for number in range(0, 100, 20):
        assert np.array_equal(_labels(panoptic, number), _labels(semantic, number))


def test_real_coco_sample_trains_on_base_pixels_only(shared_data, pytestconfig):
    train = _real(shared_data, "train", pytestconfig.rootpath)
    val = _real(shared_data, "val", pytestconfig.rootpath)
    assert (len(train), len(val)) == (100, 100)
    assert (len(train.vocabulary), len(val.vocabulary)) == (48, 65)
    assert val.vocabulary.seen.count(False) == 17
    assert not set(train.vocabulary.class_names) - set(val.vocabulary.class_names)
    used = set()
    for number in range(30):
        used |= set(train[number]["sample"].label_map.unique().tolist())
        sample = val[number]["sample"]
        assert sample.label_map.shape == sample.original_size
    assert used <= {*range(48), 255} and len(used) > 10
