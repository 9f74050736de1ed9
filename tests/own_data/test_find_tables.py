"""The files of each part are found by their names, before anything is read from them."""

import json
import logging
import sys

import pytest

from openvocab.own_data.recognition import recognize
from openvocab.own_data.saved_tables import find_tables


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def found(folder):
    return {
        part: [path.relative_to(folder).as_posix() for path in paths] for part, paths in find_tables(folder).items()
    }


@pytest.mark.parametrize(
    "train, validation",
    [
        ("train.parquet", "validation.parquet"),
        ("data/train-00000-of-00001-0a1b2c.parquet", "data/val-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/validation/0000.parquet"),
        ("train/a.parquet", "validation/b.parquet"),
        ("street_train.parquet", "street_valid.parquet"),
    ],
)
def test_parts_are_named_by_files_or_folders(train, validation, tmp_path):
    assert found(touch(tmp_path, validation, train)) == {"train": [train], "val": [validation]}


@pytest.mark.parametrize("name", ["part.parquet", "test.parquet", "data/0000.parquet"])
def test_a_single_split_is_the_whole_dataset_whatever_its_name(name, tmp_path):
    assert found(touch(tmp_path, name)) == {"train": [name]}


def test_shards_are_in_their_order_and_complete(tmp_path):
    names = [f"train-{number:05d}-of-00003.parquet" for number in range(3)]
    assert found(touch(tmp_path, *names)) == {"train": names}
    (tmp_path / names[2]).unlink()
    with pytest.raises(FileNotFoundError, match=names[2]):
        find_tables(tmp_path)


@pytest.mark.parametrize(
    "names, message",
    [
        (["train.parquet", "more.parquet"], "more.parquet may be of any part"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "several versions of a dataset"),
        (["train-00000-of-00001-a.parquet", "train-00000-of-00001-b.parquet"], "several versions of a dataset"),
        (["test/train.parquet", "test/a.parquet"], "may be of test or train"),
        (["a/train.parquet", "b/train.parquet"], "several datasets, in .*a and .*b; pass one"),
        (["validation.parquet", "test.parquet"], "no split 'train' among test, val"),
    ],
)
def test_files_of_no_certain_part_are_an_error(names, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        find_tables(touch(tmp_path, *names))


def test_hidden_folders_and_other_files_are_no_datasets(tmp_path):
    assert found(touch(tmp_path, ".cache/train.parquet", "train.csv", "state.json")) == {}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"splits": "train"}', '{"splits": ["../train"]}', '{"splits": [".."]}', '{"splits": [1]}'],
)
def test_a_damaged_list_of_splits_is_one_line(content, tmp_path):
    (tmp_path / "dataset_dict.json").write_text(content)
    with pytest.raises(ValueError, match="dataset_dict.json") as caught:
        find_tables(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("files", ["3", '{"a": "b"}', "[3]", '[{"file": "a"}]', '[{"filename": "../a.arrow"}]'])
def test_a_damaged_list_of_files_is_one_line(files, tmp_path):
    touch(tmp_path, "dataset_info.json")
    (tmp_path / "state.json").write_text(f'{{"_data_files": {files}}}')
    with pytest.raises(ValueError, match="state.json: expected a list of names"):
        find_tables(tmp_path)


def test_a_split_of_another_name_is_not_used_with_a_note(tmp_path, caplog):
    (tmp_path / "dataset_dict.json").write_text(json.dumps(dict(splits=["train", "extra"])))
    for split in ("train", "extra"):
        touch(tmp_path, f"{split}/data-00000-of-00001.arrow")
        (tmp_path / split / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    with caplog.at_level(logging.WARNING):
        assert list(find_tables(tmp_path)) == ["train"]
    assert "the split 'extra' is not used" in caplog.text


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"train.parquet.*pip install 'openvocab\[data\]'") as caught:
        recognize(touch(tmp_path, "train.parquet"))
    assert "\n" not in str(caught.value)


def test_a_data_file_uses_a_dataset_or_files_and_knows_its_keys(tmp_path):
    file = touch(tmp_path / "saved", "train.parquet").parent / "my.yaml"
    for text, message in (
        ("columns: {image: a}\nimages: photos", "'path', images for files"),
        ("columns: [a]", "columns: expected a mapping"),
        ("columns: {imag: a}", "columns: unknown key 'imag'; did you mean 'image'"),
        ("columns: {}\nbox_format: cxcywh", "box_format"),
        ("columns: {}\nsplits: {train: train.txt}", "splits for files"),
    ):
        file.write_text(f"path: saved\n{text}\n")
        with pytest.raises(ValueError, match=message):
            recognize(file)
    (tmp_path / "empty").mkdir()
    file.write_text("path: empty\ncolumns: {}")
    with pytest.raises(FileNotFoundError, match="no Arrow or Parquet files"):
        recognize(file)
