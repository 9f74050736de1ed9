"""Episodes of few-shot folds in their zero-shot form."""

import json
import unicodedata

import cv2
import numpy as np
import pytest

from openvocab.datasets.few_shot import FewShotDataset, draw_episodes
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.images.image_io import BadSample
from openvocab.metrics.episode_iou import EpisodeIoU
from openvocab.structures import SemanticPrediction

PIPELINE = [LoadImage(), LoadLabels(), PackSample()]


@pytest.fixture
def folder(tmp_path):
    """Four images; ids of PASCAL: 1..20, background 0, boundary 255."""
    for name, ids in {"a": [1, 255], "b": [2, 7], "c": [1, 5], "d": [0, 20]}.items():
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"images/{name}.jpg"), np.zeros((4, 4, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"labels/{name}.png"), np.array([ids], np.uint8).repeat(2, 1).repeat(4, 0))
    return tmp_path


def _dataset(folder, part: str, **options) -> FewShotDataset:
    return FewShotDataset("images", "labels", "pascal5i", 0, part, PIPELINE, root=folder, **options)


def test_train_and_test_classes_are_apart(folder):
    train, test = _dataset(folder, "train"), _dataset(folder, "test")
    assert test.classes == [0, 1, 2, 3, 4] and len(train.classes) == 15
    assert not set(train.classes) & set(test.classes)
    names = {train[i]["sample"].vocabulary.class_names for i in range(len(train))}
    assert names == {("others", "car"), ("others", train.class_names[19])}


def test_1000_episodes_walk_through_the_pairs(folder):
    test = _dataset(folder, "test")
    assert len(test) == 1000
    ids = [test[i]["sample"].sample_id for i in range(5)]
    assert ids == ["0:a:aeroplane", "1:b:bicycle", "2:c:aeroplane", "3:c:bottle", "4:a:aeroplane"]


def test_labels_are_the_class_against_all_others(folder):
    sample = _dataset(folder, "test")[1]["sample"]
    assert sample.vocabulary.class_names == ("others", "bicycle") and sample.vocabulary.background == 0
    assert sample.label_map[0].tolist() == [1, 1, 0, 0]


def test_boundary_is_ignored_in_testing_and_others_in_training(folder):
    assert _dataset(folder, "test")[0]["sample"].label_map[0].tolist() == [1, 1, 255, 255]
    cv2.imwrite(str(folder / "labels/b.png"), np.array([[7, 255, 1, 0]], np.uint8).repeat(4, 0))
    assert _dataset(folder, "train")[0]["sample"].label_map[0].tolist() == [1, 0, 0, 0]


def test_words_of_a_methods_weights_replace_those_of_the_split(folder):
    options = dict(root=folder, class_names="lseg_pascal_20")
    test = FewShotDataset("images", "labels", "pascal5i", 3, "test", PIPELINE, **options)
    assert test[0]["sample"].vocabulary.class_names == ("others", "tvmonitor")
    with pytest.raises(ValueError, match="class_names: expected 20, one per class, got 80"):
        _dataset(folder, "test", class_names="coco_80")


def test_classes_that_no_image_shows_are_named(folder, logged):
    len(_dataset(folder, "test"))
    assert logged[-1].levelname == "WARNING"
    assert "3 images, 5 classes; no image shows 2 of them: bird, boat" in logged[-1].getMessage()


def test_published_lists_of_pairs_are_read(folder):
    (folder / "fold0.txt").write_text("c__05\na__01\n")
    test = _dataset(folder, "test", episodes=dict(pairs="fold0.txt"))
    assert [test[i]["sample"].sample_id for i in range(3)] == ["0:c:bottle", "1:a:aeroplane", "2:c:bottle"]
    (folder / "fold0.txt").write_text("absent__05\n")
    with pytest.raises(FileNotFoundError, match="'absent'"):
        len(_dataset(folder, "test", episodes=dict(pairs="fold0.txt")))


def test_several_lists_of_pairs_are_one_and_every_item_tells_its_class(folder):
    (folder / "fold0.txt").write_text("c__05\n")
    (folder / "fold1.txt").write_text("b__07\n")
    (folder / "fold3.txt").write_text("d__20\n")
    lists = ["fold0.txt", "fold1.txt", "fold3.txt"]
    assert _dataset(folder, "train", episodes=dict(pairs=lists)).class_of_item == [6, 19]  # without the fold's own
    assert _dataset(folder, "test", episodes=dict(pairs=lists, count=2)).class_of_item == [4, 4]


@pytest.mark.parametrize("again", ["a__01", "a__1", "./a__001"])
def test_a_pair_that_is_listed_twice_is_refused_with_both_places(folder, again):
    (folder / "fold0.txt").write_text("a__01\nc__05\n")
    (folder / "fold1.txt").write_text(f"b__07\n{again}\n")
    with pytest.raises(
        ValueError, match=rf"pairs: listed twice: .*fold0\.txt: a__01 and .*fold1\.txt: {again}; remove"
    ):
        len(_dataset(folder, "test", episodes=dict(pairs=["fold0.txt", "fold1.txt"])))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_that_the_label_map_does_not_show_is_a_bad_sample(folder, part):
    cv2.imwrite(str(folder / "labels/b.png"), np.full((4, 4), 2 if part == "train" else 7, np.uint8))
    (folder / "pairs.txt").write_text("b__07\n" if part == "train" else "b__02\n")
    name = "car" if part == "train" else "bicycle"
    message = rf"labels/b\.png: no pixel is '{name}', though episodes.pairs lists it: .*pairs\.txt: b__0[27]"
    with pytest.raises(BadSample, match=message):
        _dataset(folder, part, episodes=dict(pairs="pairs.txt"))[0]


def test_stems_of_pairs_are_compared_as_keys_are(folder):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for kind, extension in (("images", "jpg"), ("labels", "png")):
        (folder / f"{kind}/c.{extension}").rename(folder / f"{kind}/{apart}.{extension}")
    (folder / "pairs.txt").write_text(f"./{composed}__05\n", encoding="utf-8")
    assert _dataset(folder, "test", episodes=dict(pairs="pairs.txt"))[0]["sample"].label_map.any()


def test_lists_of_hsnet_hold_each_pair_once(folder, shared_data):
    lists = [shared_data / f"meta/splits/pascal5i_lists/trn_fold{fold}.txt" for fold in range(4)]
    pairs = FewShotDataset(
        "images", "labels", "pascal5i", 0, "train", PIPELINE, root=folder, episodes=dict(pairs=lists)
    )
    with pytest.raises(FileNotFoundError, match="pairs: 11394 listed pairs are of images that have no files"):
        len(pairs)


@pytest.mark.parametrize("line", ["b__0", "b__21", "b__99"])
def test_classes_of_pairs_count_from_1_to_their_number(folder, line):
    (folder / "pairs.txt").write_text(f"c__05\n{line}\n")
    with pytest.raises(ValueError, match=f"pairs: .*classes are numbered from 1 to 20, got '{line}'"):
        _dataset(folder, "train", episodes=dict(pairs="pairs.txt")).class_of_item  # noqa: B018


def test_random_episodes_depend_on_the_seed_alone_and_balance_classes():
    pairs = [(f"image{i}", 0 if i else 1) for i in range(10)]
    episodes = draw_episodes(pairs, 1000, "random", seed=0)
    assert episodes == draw_episodes(pairs, 1000, "random", seed=0)
    assert episodes != draw_episodes(pairs, 1000, "random", seed=1)
    assert 400 < sum(index == 1 for _, index in episodes) < 600


def test_mistakes_are_named(folder):
    with pytest.raises(ValueError, match="folds 0 to 3, got 4"):
        FewShotDataset("images", "labels", "pascal5i", 4, "test", PIPELINE, root=folder)
    with pytest.raises(ValueError, match="'validation'"):
        _dataset(folder, "validation")
    with pytest.raises(FileNotFoundError, match="annotations"):
        len(FewShotDataset("images", "absent", "pascal5i", 0, "test", PIPELINE, root=folder))
    with pytest.raises(ValueError, match="no image shows"):
        len(FewShotDataset("images", "labels", "pascal5i", 2, "test", PIPELINE, root=folder))


def test_a_split_of_ones_own_is_checked(folder):
    def read(**content):
        (folder / "own.json").write_text(json.dumps(content))
        return FewShotDataset("images", "labels", "own.json", 0, "test", PIPELINE, root=folder, episodes=dict(count=2))

    (folder / "names.txt").write_text("plane\nbike\n")
    assert read(classes="names.txt", folds=[[1], [0]]).metainfo["classes"] == ["bike"]
    for content, message in (
        (dict(classes="names.txt"), "split: own.json has no folds: expected 'classes' .* and 'folds'"),
        (dict(folds=[[0]]), "split: own.json has no folds"),
        (dict(classes="names.txt", folds=[[2]]), r"fold 0: expected class indices below 2, got \[2\]"),
        (dict(classes="names.txt", folds=[["bike"]]), "fold 0: expected a whole number, got 'bike'"),
        (dict(classes="names.txt", folds=[1]), "fold 0: expected a list of whole numbers, got 1"),
        (dict(classes=["cat", "Others"], folds=[[0]]), "split, with 'others' as class 2: name 'others' is given twice"),
    ):
        with pytest.raises(ValueError, match=message):
            read(**content)
    with pytest.raises(ValueError, match="split: fss1000 has no folds: .*'parts'"):
        FewShotDataset("images", "labels", "fss1000", 0, "test", PIPELINE, root=folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(labels=dict(first_id=list(range(19)))), "first_id: expected 20, one per class, got 19"),
        (dict(labels=dict(first_id=[1] * 20)), "first_id: id 1 is given for two classes"),
        (dict(labels=dict(first_id="x")), "first_id: expected a whole number, got 'x'"),
        (dict(labels=dict(boundary=7)), "labels.boundary: 7 is the id of a class by labels.first_id"),
        (dict(episodes=dict(pairs=[])), r"pairs: expected a file or a list of files, got \[\]"),
        (dict(episodes=dict(pairs=[1])), "pairs: expected a path, got 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(folder, options, message):
    with pytest.raises(ValueError, match=message):
        _dataset(folder, "train", **options)


def test_numbers_may_be_written_as_text(folder):
    test = FewShotDataset(
        "images",
        "labels",
        "pascal5i",
        "0",
        "test",
        PIPELINE,
        root=folder,
        labels=dict(first_id="1"),
        episodes=dict(count=3.0),
    )
    assert len(test) == 3 and test[0]["sample"].label_map[0].tolist() == [1, 1, 255, 255]


def test_scores_equal_counting_by_hand(folder):
    test = _dataset(folder, "test", episodes=dict(count=4))
    metric = EpisodeIoU()
    by_class, front, back = {}, [0, 0], [0, 0]
    for number in range(4):
        sample = test[number]["sample"]
        predicted = np.random.default_rng(number).integers(0, 2, (4, 4)).astype(np.uint8)
        metric.process({"sample": [sample]}, [SemanticPrediction(predicted, sample.vocabulary)])
        labels = sample.label_map.numpy()
        labels, predicted = labels[labels != 255], predicted[labels != 255]
        totals = by_class.setdefault(sample.vocabulary.class_names[1], [0, 0])
        for counts in (totals, front):
            counts[0] += int(((labels == 1) & (predicted == 1)).sum())
            counts[1] += int(((labels == 1) | (predicted == 1)).sum())
        back[0] += int(((labels == 0) & (predicted == 0)).sum())
        back[1] += int(((labels == 0) | (predicted == 0)).sum())
    metrics = metric.evaluate(4)
    assert metrics["mIoU"] == pytest.approx(100 * np.mean([i / u for i, u in by_class.values()]), abs=1e-9)
    assert metrics["FB_IoU"] == pytest.approx(50 * (front[0] / front[1] + back[0] / back[1]), abs=1e-9)
