"""Tar shards: every sample once, in an order that resumes, and no bad file without a trace."""

import io
import json
import sys
import tarfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from openvocab.datasets import WebCaptionDataset
from openvocab.datasets.shards.tar_shards import expand_shards, read_shard, share_of
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.images.image_io import BadSample

pytest.importorskip("webdataset")


def png(gray: int) -> bytes:
    return cv2.imencode(".png", np.full((4, 6, 3), gray % 256, np.uint8))[1].tobytes()


def sample_files(number: int) -> dict[str, bytes]:
    return {f"{number:04d}.png": png(number), f"{number:04d}.txt": f"picture {number}".encode()}


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def write_shards(folder: Path, sizes: list[int]) -> int:
    """Write shards of these sizes and return how many samples there are."""
    number = 0
    for shard, size in enumerate(sizes):
        files: dict[str, bytes] = {}
        for _ in range(size):
            files |= sample_files(number)
            number += 1
        write_tar(folder / f"s-{shard:03d}.tar", files)
    return number


def captions(items) -> list[str]:
    return [item["sample"].captions[0] for item in items]


def of_rank(monkeypatch, rank: int, ranks: int, folder: Path, **options) -> WebCaptionDataset:
    monkeypatch.setattr("openvocab.datasets.web_captions.get_dist_info", lambda: (rank, ranks))
    return WebCaptionDataset(str(folder / "*.tar"), **options)


def loader(dataset: WebCaptionDataset, workers: int = 0, batch_size: int = 4) -> DataLoader:
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=pseudo_collate)


def test_a_sample_has_image_caption_and_identity(tmp_path):
    write_shards(tmp_path, [2])
    first, second = WebCaptionDataset(str(tmp_path / "s-000.tar"), shuffle_buffer=1, passes=1)
    assert first["sample"].captions == ("picture 0",) and second["sample"].sample_id == "s-000/0001"
    assert second["image"].shape == (3, 4, 6) and second["image"].unique().tolist() == [1]
    assert first["sample"].original_size == (4, 6) and first["sample"].vocabulary is None


@pytest.mark.parametrize("sizes", [[5, 1, 7, 4, 3, 6, 2], [9, 4], [11]], ids=["many", "two", "one"])
def test_two_ranks_with_two_workers_see_each_sample_once(tmp_path, monkeypatch, sizes):
    count = write_shards(tmp_path, sizes)
    seen = Counter()
    for rank in range(2):
        dataset = of_rank(monkeypatch, rank, 2, tmp_path, passes=1, shuffle_buffer=5)
        for batch in loader(dataset, workers=2):
            seen.update(sample.captions[0] for sample in batch["sample"])
    assert seen == Counter(f"picture {number}" for number in range(count))


@pytest.mark.parametrize(("shards", "consumers"), [(7, 3), (3, 3), (3, 7), (1, 5), (2, 16)])
def test_shares_split_the_samples(shards, consumers):
    taken = Counter(
        (share.shard, number)
        for consumer in range(consumers)
        for share in share_of(shards, consumer, consumers)
        for number in range(share.first, 20, share.step)
    )
    assert taken == Counter((shard, number) for shard in range(shards) for number in range(20))


def test_each_pass_has_another_order_and_the_seed_fixes_them(tmp_path):
    count = write_shards(tmp_path, [6, 6, 6])
    two = captions(WebCaptionDataset(str(tmp_path / "*.tar"), passes=2, seed=1, shuffle_buffer=7))
    assert sorted(two[:count]) == sorted(two[count:]) and two[:count] != two[count:]
    assert two == captions(WebCaptionDataset(str(tmp_path / "*.tar"), passes=2, seed=1, shuffle_buffer=7))
    assert two != captions(WebCaptionDataset(str(tmp_path / "*.tar"), passes=2, seed=2, shuffle_buffer=7))
    in_order = captions(WebCaptionDataset(str(tmp_path / "*.tar"), passes=1, shuffle_buffer=1))
    assert in_order == [f"picture {number}" for number in range(count)]


def noisy(results):
    return {**results, "captions": [f"{results['captions'][0]} {np.random.rand()} {torch.rand(()).item()}"]}


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_resuming_continues_with_the_very_next_batch(tmp_path, workers):
    write_shards(tmp_path, [5, 9, 3, 4, 8])
    (tmp_path / "s-002.tar").write_bytes(b"broken")
    options = dict(pipeline=[noisy, LoadImage(), PackSample()], shuffle_buffer=6)

    def batches(start: dict, count: int) -> tuple[list, WebCaptionDataset]:
        dataset = WebCaptionDataset(str(tmp_path / "*.tar"), **options)
        dataset.start_at(start, seed=3)
        found = []
        for batch, _ in zip(loader(dataset, workers), range(count)):
            dataset.note_consumed(batch["position"])
            found.append(captions({"sample": sample} for sample in batch["sample"]))
        return found, dataset

    whole, uninterrupted = batches({}, 22)
    for stop in (1, 8):
        first, interrupted = batches({}, stop)
        second, resumed = batches(json.loads(json.dumps(interrupted.progress())), 22 - stop)
        assert first + second == whole
        assert resumed.bad_sample_count == uninterrupted.bad_sample_count > 0
        assert resumed.progress() == uninterrupted.progress()


def test_resuming_with_other_workers_starts_a_new_pass(tmp_path, monkeypatch):
    count = write_shards(tmp_path, [4, 4])
    dataset = WebCaptionDataset(str(tmp_path / "*.tar"), seed=0)
    first = next(iter(dataset))
    dataset.note_consumed([first["position"]])
    other = of_rank(monkeypatch, 0, 2, tmp_path, seed=0, passes=2)
    other.start_at(dataset.progress(), seed=0)
    items = list(other)
    assert [item["position"].pass_number for item in items] == [1] * (count // 2)


def test_bad_samples_are_skipped_and_counted(tmp_path):
    files = sample_files(0)
    files |= {"0001.png": png(1)[:40], "0001.txt": b"cut image"}
    files |= {"0002.txt": b"no image"}
    files |= {"0003.png": png(3)}
    files |= {"0004.png": png(4), "0004.txt": b" &nbsp; \n"}
    files |= {"0005.png": png(5), "0005.json": b"{broken"}
    files |= {"0006.png": png(6), "0006.txt": b"\xff\xfe\xfa"}
    files |= {"0007.png": png(7), "0007.json": b'{"captions": ["\\u200b", "&#8203; "]}'}
    write_tar(tmp_path / "a.tar", files | sample_files(8))
    dataset = WebCaptionDataset(str(tmp_path / "a.tar"), passes=1, shuffle_buffer=1)
    items = list(dataset)
    assert captions(items) == ["picture 0", "picture 8"]
    dataset.note_consumed([item["position"] for item in items])
    assert dataset.bad_sample_count == 7
    reasons = ["0001.png: truncated PNG", "0002: no image", "0003: no caption", "0004: no caption"]
    reasons += ["0005: its captions cannot be read", "0006: its captions cannot be read"]
    reasons += ["0007: no caption"]
    for path, reason in zip(dataset.bad_sample_paths, reasons, strict=True):
        assert f"{tmp_path}/a.tar/{reason}" in path


@pytest.mark.parametrize("cut", ["at a file", "in a file", "in a header", "end mark"])
def test_a_cut_shard_gives_what_is_whole_and_is_counted(tmp_path, cut):
    write_shards(tmp_path, [6])
    content = (tmp_path / "s-000.tar").read_bytes()
    place = content.index(b"0003.png")  # where its header begins: a multiple of 512
    size = {"at a file": place, "in a file": place + 520, "in a header": place + 100, "end mark": 6 * 4 * 512}[cut]
    (tmp_path / "s-000.tar").write_bytes(content[:size])
    dataset = WebCaptionDataset(str(tmp_path / "s-000.tar"), passes=1)
    items = list(dataset)
    assert len(items) == (6 if cut == "end mark" else 3)
    assert sorted(captions(items))[:3] == [f"picture {number}" for number in range(3)]
    dataset.note_consumed([items[-1]["position"]])
    assert any("s-000.tar: the shard cannot be read" in path for path in dataset.bad_sample_paths)


@pytest.mark.parametrize("content", [b"", b"this is no archive" * 100, b"\x1f\x8b\x08 broken gzip"])
def test_files_that_are_no_archive_are_counted(tmp_path, content):
    write_shards(tmp_path, [3, 3])
    (tmp_path / "s-000.tar").write_bytes(content)
    items = list(WebCaptionDataset(str(tmp_path / "*.tar"), passes=1))
    assert sorted(captions(items)) == ["picture 3", "picture 4", "picture 5"]
    assert items[-1]["position"].bad_count == 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_broken_shard_that_many_workers_read_counts_once(tmp_path):
    write_shards(tmp_path, [8, 8])
    (tmp_path / "s-000.tar").write_bytes((tmp_path / "s-000.tar").read_bytes()[: 4 * 512 * 4 + 100])
    dataset = WebCaptionDataset(str(tmp_path / "*.tar"), passes=1, seed=0)
    for batch in loader(dataset, workers=4, batch_size=1):
        dataset.note_consumed(batch["position"])
    assert dataset.bad_sample_count == 1


def test_an_endless_stream_without_a_usable_sample_stops(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.png": b"nothing", "1.txt": b"a cat"})
    with pytest.raises(ValueError, match="no usable sample in 30 passes.*skipped: .*a.tar/1.png"):
        next(iter(WebCaptionDataset(str(tmp_path / "a.tar"))))


def test_compressed_and_concatenated_archives_are_read_whole(tmp_path):
    write_tar(tmp_path / "a.tar.gz", sample_files(0) | sample_files(1), "w:gz")
    write_shards(tmp_path, [2, 2])
    both = (tmp_path / "s-000.tar").read_bytes() + (tmp_path / "s-001.tar").read_bytes()
    (tmp_path / "both.tar").write_bytes(both)
    assert len(list(read_shard(str(tmp_path / "a.tar.gz")))) == 2
    assert [sample["__key__"] for sample in read_shard(str(tmp_path / "both.tar"))] == ["0000", "0001", "0002", "0003"]


def test_commands_and_urls_are_read(tmp_path):
    write_shards(tmp_path, [2, 2])
    pipes = f"pipe:cat {tmp_path}/s-{{000..001}}.tar"
    with pytest.raises(ValueError, match="is a shell command; it is run with allow_commands=True only"):
        WebCaptionDataset(pipes, passes=1)
    allowed = dict(passes=1, allow_commands=True)
    assert sorted(captions(WebCaptionDataset(pipes, **allowed))) == [f"picture {number}" for number in range(4)]
    assert len(list(WebCaptionDataset(f"file:{tmp_path}/s-000.tar", passes=1))) == 2
    dataset = WebCaptionDataset([f"pipe:cat {tmp_path}/s-000.tar", "pipe:cat /nothing/there.tar"], **allowed)
    items = list(dataset)
    assert len(items) == 2
    with pytest.raises(BadSample, match="pipe:cat /nothing/there.tar: the shard cannot be read"):
        list(read_shard("pipe:cat /nothing/there.tar"))
    with pytest.raises(BadSample, match="exit 3"):
        list(read_shard(f"pipe:cat {tmp_path}/s-000.tar; exit 3"))


def test_patterns_name_shards(tmp_path):
    write_shards(tmp_path, [1, 1, 1])
    names = [str(tmp_path / f"s-{number:03d}.tar") for number in range(3)]
    assert expand_shards("s-{000..002}.tar", tmp_path) == expand_shards("s-*.tar", tmp_path) == names
    assert expand_shards(["s-002.tar", names[0]], tmp_path) == [names[2], names[0]]
    assert expand_shards("https://host/{0..1}.tar") == ["https://host/0.tar", "https://host/1.tar"]
    with pytest.raises(FileNotFoundError, match=r"s-000000.tar; check the pattern and the width"):
        expand_shards("s-{000000..000002}.tar", tmp_path)
    with pytest.raises(FileNotFoundError, match="no file matches .*t-"):
        expand_shards("t-*.tar", tmp_path)
    with pytest.raises(ValueError, match="1 are named twice"):
        expand_shards(["s-*.tar", "s-001.tar"], tmp_path)
    with pytest.raises(ValueError, match="expected at least one"):
        expand_shards([], tmp_path)


def test_several_texts_of_a_sample(tmp_path):
    texts = ["a cat &amp; a dog", " ", "\u200b", "кошка", "一只猫"]
    record = {"captions": texts, "caption": "not this one"}
    write_tar(tmp_path / "a.tar", {"1.png": png(0), "1.json": json.dumps(record).encode(), "1.txt": b"nor this"})

    def first(**options) -> tuple[str, ...]:
        return next(iter(WebCaptionDataset(str(tmp_path / "a.tar"), **options)))["sample"].captions

    assert first(caption="first", num_captions=5) == (*("a cat & a dog", "кошка", "一只猫"), "a cat & a dog", "кошка")
    assert first(caption_keys=("title", "caption")) == ("not this one",)
    assert first(caption_keys=()) == ("nor this",)
    assert len({*first(num_captions=3)}) == 3


def test_an_entity_of_thousands_of_digits_is_a_character(tmp_path):
    beyond, zeros = b"a &#" + b"1" * 5000, b"a &#" + b"0" * 5000 + b"65;"
    write_tar(tmp_path / "a.tar", {"1.png": png(1), "1.txt": beyond, "2.png": png(2), "2.txt": zeros})
    dataset = WebCaptionDataset(str(tmp_path / "a.tar"), passes=1, shuffle_buffer=1)
    assert captions(dataset) == ["a \ufffd", "a A"]


def test_a_missing_library_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match=r"tar shards need the package webdataset: pip install 'openvocab\[data\]'"):
        WebCaptionDataset(str(tmp_path / "*.tar"))


def test_wrong_numbers_are_refused(tmp_path):
    write_shards(tmp_path, [1])
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        WebCaptionDataset(str(tmp_path / "*.tar"), shuffle_buffer=0)
    with pytest.raises(ValueError, match="num_captions: expected at least 1, got 0"):
        WebCaptionDataset(str(tmp_path / "*.tar"), num_captions=0)
