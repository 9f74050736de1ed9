"""CIFAR's archives: right pixels and labels, and nothing in a pickle is run."""

import io
import lzma
import os
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from openvocab.datasets import CifarDataset
from openvocab.datasets.files import safe_pickle as plain_pickle
from openvocab.datasets.files.safe_pickle import read_plain_pickle

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def batch(start: int, count: int = 2) -> dict:
    """Image n has red n, green n + 100 and blue by column."""
    images = np.zeros((count, 3, 32, 32), np.uint8)
    for row, number in enumerate(range(start, start + count)):
        images[row, 0], images[row, 1], images[row, 2] = number, number + 100, np.arange(32)
    return {b"data": images.reshape(count, 3072), b"labels": [n % 10 for n in range(start, start + count)]}


@pytest.fixture
def files() -> dict[str, bytes]:
    contents = {f"data_batch_{number}": batch(2 * number - 2) for number in range(1, 6)}
    contents |= {"test_batch": batch(20, 3), "batches.meta": {b"label_names": [name.encode() for name in NAMES]}}
    return {name: pickle.dumps(content, protocol=2) for name, content in contents.items()}


def archive(path: Path, files: dict[str, bytes], folder: str = "cifar-10-batches-py", mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(f"{folder}/{name}")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def test_images_and_labels_from_the_archive(tmp_path, files):
    path = archive(tmp_path / "cifar.tar.gz", files)
    dataset = CifarDataset(path, 10, "train", verify=False)
    assert len(dataset) == 10 and len(CifarDataset(path, 10, "test", verify=False)) == 3
    item = dataset[7]
    assert item["image"].shape == (3, 32, 32)
    assert item["image"][0].unique().tolist() == [7] and item["image"][1].unique().tolist() == [107]
    assert item["image"][2, 5].tolist() == list(range(32))  # RGB, rows are rows
    assert item["sample"].class_ids == (7,) and item["sample"].sample_id == "train/00007"
    assert item["sample"].vocabulary.class_names == tuple(NAMES)
    assert item["sample"].original_size == (32, 32)


def test_an_unpacked_folder_is_read_too(tmp_path, files):
    archive(tmp_path / "c.tar.gz", files)
    with tarfile.open(tmp_path / "c.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    for path in (".", "cifar-10-batches-py"):
        assert len(CifarDataset(path, 10, "test", root=tmp_path, verify=False)) == 3
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(FileNotFoundError, match="has no file 'test_batch'"):
        len(CifarDataset(tmp_path, 10, "test", verify=False))


def test_the_hundred_have_two_kinds_of_labels(tmp_path):
    content = {b"data": batch(0)[b"data"], b"fine_labels": [99, 0], b"coarse_labels": [1, 0]}
    names = {b"fine_label_names": [f"fine_{i}".encode() for i in range(100)], b"coarse_label_names": [b"a", b"b"]}
    files = {"test": pickle.dumps(content, 2), "meta": pickle.dumps(names, 2)}
    path = archive(tmp_path / "c.tar.gz", files, "cifar-100-python")
    fine, coarse = (CifarDataset(path, 100, "test", labels=kind, verify=False) for kind in ("fine", "coarse"))
    assert fine[0]["sample"].class_ids == (99,) and fine.vocabulary.class_names[99] == "fine 99"
    assert coarse[0]["sample"].class_ids == (1,) and len(coarse.vocabulary) == 2


def test_other_files_than_the_published_ones_are_refused(tmp_path, files):
    path = archive(tmp_path / "c.tar.gz", files)
    with pytest.raises(ValueError, match="has the MD5 .*, expected .*verify=False"):
        len(CifarDataset(path, 10, "test"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": np.zeros((2, 100), np.uint8)}, r"expected uint8 data \(N, 3072\).*data is \(2, 100\)"),
        ({b"data": [1, 2]}, "data is list"),
        ({b"labels": [1]}, "got 1 labels"),
        ({b"labels": [1, 10]}, "label 10 is none of the 10 classes"),
        ({b"data": np.zeros((2, 3072), np.float32)}, "expected uint8"),
    ],
)
def test_content_of_another_form_is_named(tmp_path, files, change, message):
    files["test_batch"] = pickle.dumps({**batch(0), **change}, protocol=2)
    with pytest.raises(ValueError, match=message):
        len(CifarDataset(archive(tmp_path / "c.tar.gz", files), 10, "test", verify=False))


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def test_nothing_in_a_pickle_is_run(tmp_path, files, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 5):
        content = pickle.dumps({b"data": Evil()}, protocol)
        with pytest.raises(ValueError, match="refers to posix.system; nothing in it was run"):
            read_plain_pickle(content)
        files["test_batch"] = content
        with pytest.raises(ValueError, match="nothing in it was run"):
            len(CifarDataset(archive(tmp_path / "c.tar.gz", files), 10, "test", verify=False))
    assert not (tmp_path / "was_run").exists()


def test_plain_values_are_read_and_broken_pickles_refused():
    value = {"a": [1, 2.5, None, True, "ü", b"\xff\x00"], "b": (np.arange(6, dtype=np.uint8).reshape(2, 3).T,)}
    for protocol in (2, 3, 4):
        read = read_plain_pickle(pickle.dumps(value, protocol))
        assert read["a"] == value["a"] and np.array_equal(read["b"][0], value["b"][0])
    for content in (b"", b"\x80", b"hello", pickle.dumps(value, 2)[:-9]):
        with pytest.raises(ValueError, match="not a pickle of plain values"):
            read_plain_pickle(content)


def test_wrong_arguments_are_clear(tmp_path):
    with pytest.raises(ValueError, match="expected 10 or 100"):
        CifarDataset(tmp_path, 20, "test")
    with pytest.raises(ValueError, match="part: expected one of train, test, got 'val'"):
        CifarDataset(tmp_path, 10, "val")
    with pytest.raises(ValueError, match=r"CIFAR-10 has \['fine'\], got 'coarse'"):
        CifarDataset(tmp_path, 10, "test", labels="coarse")
    with pytest.raises(FileNotFoundError, match="no archive or folder"):
        len(CifarDataset(tmp_path / "none.tar.gz", 10, "test"))
    (tmp_path / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(ValueError, match="not a complete tar archive"):
        len(CifarDataset(tmp_path / "cut.tar.gz", 10, "test"))


@pytest.mark.parametrize(("kind", "error_of_codec"), [("gz", zlib.error), ("xz", lzma.LZMAError)])
def test_a_flipped_byte_of_the_archive_is_one_line_with_its_path(tmp_path, files, kind, error_of_codec):
    pixels = np.random.default_rng(0).integers(0, 4, (10, 3072), np.uint8)
    files["data_batch_1"] = pickle.dumps({b"data": pixels, b"labels": [0] * 10}, protocol=2)
    path = archive(tmp_path / "c.tar", files, mode=f"w:{kind}")
    whole, met = path.read_bytes(), set()
    for place in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            len(CifarDataset(path, 10, "train", verify=False))
        except (ValueError, FileNotFoundError) as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            met.add(type(error.__cause__))
    assert error_of_codec in met


def test_a_pickle_cannot_change_the_reader():
    """BUILD with a slot state would set attributes of our functions."""
    before = vars(plain_pickle).copy(), plain_pickle._encode.__defaults__, plain_pickle._dtype.__defaults__
    for module, name in plain_pickle._KNOWN:
        program = f"c{module}\n{name}\n".encode() + b"(N}X\x0c\x00\x00\x00__defaults__X\x05\x00\x00\x00utf-8\x85stb."
        with pytest.raises(ValueError, match="tried to change the reader"):
            read_plain_pickle(b"\x80\x02" + program)
    assert before == (vars(plain_pickle), plain_pickle._encode.__defaults__, plain_pickle._dtype.__defaults__)


def test_a_pickle_that_doubles_itself_is_walked_once():
    value: list = [1]
    for _ in range(60):
        value = [value, value]
    read = read_plain_pickle(pickle.dumps(value, 2))
    for _ in range(60):
        assert read[0] is read[1]
        read = read[0]
    assert read == [1]
    circle: list = []
    circle.append(circle)
    with pytest.raises(ValueError, match="not a pickle of plain values"):
        read_plain_pickle(pickle.dumps(circle, 2))
