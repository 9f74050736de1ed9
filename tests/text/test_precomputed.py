"""Rows from a file instead of a text tower."""

import numpy as np
import pytest
import safetensors.torch
import torch

from openvocab.registry import TEXT_ENCODERS
from openvocab.text.precomputed import PrecomputedTextEncoder
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

NAMES = ["cat", "traffic_light", "Dog"]
ROWS = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]], dtype=np.float16)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, ROWS)
    return path


def test_rows_are_looked_up_by_name_and_have_unit_norm(table):
    text = PrecomputedTextEncoder(table, NAMES, logit_scale=20.0)(Vocabulary.from_names(["Dog", "cat"]))
    torch.testing.assert_close(text.embed, torch.tensor([[-1.0, 0.0], [0.6, 0.8]]))
    assert text.logit_scale.item() == 20.0
    assert text.num_classes == 2


def test_case_white_space_and_underscores_do_not_count_but_an_exact_name_comes_first(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.eye(4, dtype=np.float32))
    encoder = PrecomputedTextEncoder(path, ["polish", "Polish", "Traffic_Light", "cat"])
    text = encoder(Vocabulary.from_names(["Polish", "traffic light", " CAT"]))
    assert text.embed.argmax(1).tolist() == [1, 2, 3]
    assert encoder(Vocabulary.from_names(["POLISH"])).embed.argmax().item() == 0


def test_missing_names_are_listed_and_their_number_told(table):
    encoder = PrecomputedTextEncoder(table, NAMES)
    with pytest.raises(ValueError, match=r"10 of the class names have no row.*'cow 0', .*'cow 7', \.\.\."):
        encoder(Vocabulary.from_names(["cat", *(f"cow {i}" for i in range(10))]))


def test_raw_captions_are_refused(table):
    with pytest.raises(ValueError, match="class names only"):
        PrecomputedTextEncoder(table, NAMES)(["a photo of a cat"])


def test_synonyms_merge_by_mean_or_compete(table):
    encoder = PrecomputedTextEncoder(table, NAMES)
    entries = [["cat", "traffic light", "unknown word"], "dog"]
    mean = encoder(Vocabulary.from_names(entries)).embed
    expected = np.array([0.6, 1.8]) / np.hypot(0.6, 1.8)
    torch.testing.assert_close(mean[0], torch.tensor(expected, dtype=torch.float32))
    rows = encoder(Vocabulary.from_names(entries, synonym_merge="max"))
    assert rows.row_class.tolist() == [0, 0, 1]
    assert rows.num_classes == 2


def test_names_of_one_row_may_be_synonyms(table):
    encoder = PrecomputedTextEncoder(table, [["cat", "kitten"], "traffic light", "dog"])
    both = encoder(Vocabulary.from_names(["kitten", "cat"])).embed
    assert torch.equal(both[0], both[1])


def test_names_may_come_from_a_file_and_rows_from_safetensors(tmp_path):
    names, rows = tmp_path / "names.txt", tmp_path / "rows.safetensors"
    names.write_text("cat\ndog\n")
    safetensors.torch.save_file({"rows": torch.eye(2, 5), "other": torch.zeros(1)}, rows)
    encoder = TEXT_ENCODERS.build({"type": "PrecomputedTextEncoder", "path": rows, "names": str(names)})
    assert encoder.embed_dim == 5
    assert encoder(Vocabulary.from_names(["dog"])).embed[0, 1] == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 2), dtype=np.float32), "zero or not finite"),
        (np.full((3, 2), np.nan), "zero or not finite"),
        (np.ones((2, 2)), "has 2 rows, but 3 names"),
        (np.ones(3), "expected a .rows, width. table"),
        (np.ones((3, 2), dtype=np.int64), "floating-point"),
        (np.array([{"a": 1}], dtype=object), "expected a .npy"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, array, message):
    path = tmp_path / "rows.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        PrecomputedTextEncoder(path, NAMES)


@pytest.mark.parametrize("name", ["rows.npy", "rows.safetensors"])
def test_a_file_of_something_else_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not a table")
    with pytest.raises(ValueError, match=name):
        PrecomputedTextEncoder(path, NAMES)
    with pytest.raises(FileNotFoundError, match="missing.npy"):
        PrecomputedTextEncoder(tmp_path / "missing.npy", NAMES)


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_in_the_file_never_runs(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "rows.npy"
    np.save(path, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        PrecomputedTextEncoder(path, NAMES)
    assert not canary.exists()


def test_rows_are_no_part_of_a_checkpoint(table):
    assert not PrecomputedTextEncoder(table, NAMES).state_dict()


@pytest.mark.parametrize(("file", "names"), [("coco80_vitb32_a", "coco_80"), ("lvis1203_vitb32_a", "lvis_1203")])
def test_real_clip_rows_fit_our_class_lists(shared_data, file, names):
    encoder = PrecomputedTextEncoder(shared_data / f"meta/text_embeddings/{file}.npy", names, templates_note="a {}")
    vocabulary = Vocabulary.from_names(read_class_names(class_names_path(names)))
    embed = encoder(vocabulary).embed
    raw = np.load(shared_data / f"meta/text_embeddings/{file}.npy").astype(np.float32)
    torch.testing.assert_close(embed.norm(dim=1), torch.ones(len(vocabulary)))
    torch.testing.assert_close(embed, torch.from_numpy(raw / np.linalg.norm(raw, axis=1, keepdims=True)))


def test_real_rows_know_what_words_mean(shared_data):
    encoder = PrecomputedTextEncoder(shared_data / "meta/text_embeddings/lvis1203_vitb32_a.npy", "lvis_1203")
    text = encoder(Vocabulary.from_names(["sofa", "armchair", "banana"]))
    near, far = text.embed[0] @ text.embed[1], text.embed[0] @ text.embed[2]
    assert near > far
