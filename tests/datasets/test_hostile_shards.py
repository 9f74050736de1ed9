"""Tar shards of strangers: nothing in a name runs, and no member takes more memory than was agreed."""

import bz2
import gzip
import io
import lzma
import os
import signal
import tarfile
import tracemalloc
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from time_limit import time_limit

from openvocab.datasets import WebCaptionDataset
from openvocab.datasets.shards.shard_writing import write_shards
from openvocab.datasets.shards.tar_shards import is_whole_shard

pytest.importorskip("webdataset")

PNG = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
BIG = 80 << 20
"""More than the limit of a member."""


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def archive(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT, **attributes: dict) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content in files.items():
            info = header(name, len(content))
            info.pax_headers = attributes.get(name.replace(".", "_"), {})
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def pair(key: str, caption: str) -> dict[str, bytes]:
    return {f"{key}.png": PNG, f"{key}.txt": caption.encode()}


def read(folder: Path, content: bytes, name: str = "s.tar", **options) -> tuple[list[str], list[str]]:
    """Return the captions of a shard and why samples were skipped."""
    (folder / name).write_bytes(content)
    dataset = WebCaptionDataset(str(folder / name), passes=1, shuffle_buffer=1, **options)
    stream = dataset._stream()
    dataset._stream = lambda: stream
    captions = [item["sample"].captions[0] for item in dataset]
    return captions, list(stream.position.bad_examples)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"caption": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b'{"caption": "a", "caption": "b"}', "the key 'caption' twice"),
        (b'{"caption": "\xff"}', "not UTF-8"),
        ('{"caption": "a"}'.encode("utf-16"), "UTF-16"),
        (b'{"caption": "' + b"a " * 100_000 + b'"}', "a caption of more than 100000 characters"),
    ],
    ids=["deep", "digits", "twice", "bytes", "utf-16", "long"],
)
def test_a_broken_caption_costs_its_sample(tmp_path, text, reason):
    files = {**pair("a", "first"), "m.png": PNG, "m.json": text, **pair("z", "last")}
    captions, bad = read(tmp_path, archive(files))
    assert captions == ["first", "last"]
    assert len(bad) == 1 and "s.tar/m: " in bad[0] and reason in bad[0]


def test_a_caption_with_a_byte_order_mark_is_read(tmp_path):
    captions, bad = read(tmp_path, archive({"m.png": PNG, "m.json": b'\xef\xbb\xbf{"caption": "a"}'}))
    assert captions == ["a"] and not bad


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["tar", "gz", "bz2", "xz"])
def test_an_enormous_member_is_skipped_unread(tmp_path, pack):
    content = pack(archive({**pair("a", "first"), "m.png": bytes(BIG), "m.txt": b"x", **pair("z", "last")}))
    tracemalloc.start()
    captions, bad = read(tmp_path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert captions == ["first", "last"]
    assert len(bad) == 1 and f"s.tar/m.png: {BIG} bytes, more than max_member_bytes=67108864" in bad[0]
    assert peak < len(content) + (24 << 20)
    captions, bad = read(tmp_path, archive(pair("a", "x" * 50)), max_member_bytes=49)
    assert not captions and "a.png" in bad[0]


def test_members_that_no_one_asked_for_are_not_read(tmp_path):
    captions, bad = read(tmp_path, archive({**pair("a", "first"), "a.mp4": bytes(BIG), **pair("z", "last")}))
    assert captions == ["first", "last"] and not bad


def with_size(claimed: int, form: int) -> bytes:
    """A shard whose second sample claims a picture of another size than it has."""
    if form == tarfile.PAX_FORMAT:
        files = {**pair("a", "first"), "m.png": PNG, **pair("z", "last")}
        return archive(files, form, m_png={"size": str(claimed)})
    picture = header("m.png", claimed).tobuf(form) + PNG.ljust(512, b"\0")
    return archive(pair("a", "first"))[:2048] + picture + archive(pair("z", "last"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "gz"])
@pytest.mark.parametrize("claimed", [2**26 + 1, 2**62, 2**80, -512, -5])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_size_that_no_shard_holds_ends_it_at_once(tmp_path, form, claimed, pack):
    with time_limit(20):
        captions, bad = read(tmp_path, pack(with_size(claimed, form)))
        assert not is_whole_shard(tmp_path / "s.tar")
    assert captions == ["first"] and "s.tar: the shard cannot be read" in bad[-1]
    assert ("a file of negative size" if claimed < 0 else "cut off: it ends within a file") in bad[-1]


def test_a_size_that_no_shard_holds_ends_it_in_a_file_that_no_one_asked_for(tmp_path):
    video = header("a.mp4", 2**62).tobuf(tarfile.GNU_FORMAT)
    with time_limit(20):
        captions, bad = read(tmp_path, archive(pair("a", "first"))[:2048] + video + bytes(4096))
    assert captions == ["first"] and "cut off: it ends within a file" in bad[0]


def sparse_header(claimed: int, goes_on: bool = False) -> bytes:
    block = bytearray(header("m.png", 0, tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    block[482] = goes_on
    block[386:398] = block[398:410] = b"%011o\0" % 0
    block[483:495] = b"%011o\0" % claimed
    block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:512]))
    return bytes(block)


def test_a_sparse_member_is_refused(tmp_path):
    first, last = archive(pair("a", "first")), archive(pair("z", "last"))
    captions, bad = read(tmp_path, first[:2048] + sparse_header(6 << 30) + last)
    assert captions == ["first", "last"] and "m.png: a sparse file" in bad[0]
    attributes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "m.png"}
    attributes["GNU.sparse.realsize"] = str(6 << 30)
    files = {"m.png": b"1\n0\n0\n".ljust(512, b"\0"), **pair("z", "last")}
    captions, bad = read(tmp_path, archive(files, tarfile.PAX_FORMAT, m_png=attributes))
    assert captions == ["last"] and "m.png: a sparse file" in bad[0]


def test_the_map_of_a_sparse_member_takes_no_memory_and_may_be_cut_off(tmp_path):
    first, last = archive(pair("a", "first"))[:2048], archive(pair("z", "last"))
    entries = b"%011o\0" % 1 * 42
    cut = first + sparse_header(6 << 30, goes_on=True) + (entries + b"\1".ljust(8, b"\0")) * 20_000
    whole = cut + entries + bytes(8) + last
    tracemalloc.start()
    captions, bad = read(tmp_path, whole)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert captions == ["first", "last"] and "m.png: a sparse file" in bad[0]
    assert peak < 16 << 20
    captions, bad = read(tmp_path, cut)
    assert captions == ["first"] and "cut off: it ends within the map of a sparse file" in bad[0]


def test_a_long_name_that_would_fill_the_memory_ends_the_shard(tmp_path):
    bomb = header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME).tobuf() + bytes(1 << 20)
    captions, bad = read(tmp_path, archive(pair("a", "first"))[:2048] + bomb)
    assert captions == ["first"] and "s.tar: the shard cannot be read" in bad[0] and "a header of 1073741824" in bad[0]


def test_long_names_in_an_endless_row_end_the_shard(tmp_path):
    chain = header("x", 0, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT) * 2000
    content = archive(pair("a", "first"))[:2048] + chain + archive(pair("z", "last"))
    captions, bad = read(tmp_path, content)
    assert captions == ["first"] and "s.tar: the shard cannot be read" in bad[0]
    assert not is_whole_shard(tmp_path / "s.tar")


def test_a_buffer_has_a_bound_in_bytes_and_resumes_at_it(tmp_path, monkeypatch):
    monkeypatch.setattr("openvocab.datasets.shards.shard_stream.MAX_BUFFER_BYTES", 250)
    files = {name: content for number in range(9) for name, content in pair(f"{number}", f"c{number}").items()}
    (tmp_path / "s.tar").write_bytes(archive(files))

    def stream(start: dict) -> list:
        dataset = WebCaptionDataset(str(tmp_path / "s.tar"), passes=1, shuffle_buffer=1000)
        dataset.start_at(start, seed=0)
        return list(dataset), dataset

    items, dataset = stream({})
    assert sorted(item["sample"].captions[0] for item in items) == [f"c{number}" for number in range(9)]
    assert len({item["position"].skip for item in items}) > 2
    dataset.note_consumed([items[4]["position"]])
    rest, _ = stream(dataset.progress())
    assert [item["sample"].sample_id for item in rest] == [item["sample"].sample_id for item in items[5:]]


@pytest.mark.parametrize("name", ["pipe:touch RUN; cat #.tar", "PIPE:touch RUN; cat #.tar", "file:x.tar", "-.tar"])
@pytest.mark.parametrize("by_pattern", [True, False])
def test_a_name_on_the_disk_is_never_a_command(tmp_path, monkeypatch, name, by_pattern):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(archive(pair("a", "first")))
    if by_pattern or name.startswith(("PIPE", "-")):
        dataset = WebCaptionDataset("*.tar" if by_pattern else name, passes=1)
        assert [item["sample"].captions[0] for item in dataset] == ["first"]
    elif name.startswith("pipe"):
        with pytest.raises(ValueError, match="is a shell command; it is run with allow_commands=True only"):
            WebCaptionDataset(name, passes=1)
    assert os.listdir() == [name]


def test_a_pipe_is_a_bad_shard_and_never_a_whole_one(tmp_path):
    (tmp_path / "a.tar").write_bytes(archive(pair("a", "first")))
    os.mkfifo(tmp_path / "b.tar")
    dataset = WebCaptionDataset(str(tmp_path / "*.tar"), passes=1)
    stream = dataset._stream()
    dataset._stream = lambda: stream
    with time_limit(30):
        assert [item["sample"].captions[0] for item in dataset] == ["first"]
        assert not is_whole_shard(tmp_path / "b.tar")
    assert len(stream.position.bad_examples) == 1 and "b.tar: the shard" in stream.position.bad_examples[0]
    assert "not a regular file" in stream.position.bad_examples[0]


def test_names_in_an_archive_lead_nowhere(tmp_path):
    before = sorted(tmp_path.parent.rglob("*"))
    captions, _ = read(tmp_path, archive(pair("../../../x", "t")))
    assert captions == ["t"] and sorted(tmp_path.parent.rglob("*")) == sorted([*before, tmp_path / "s.tar"])


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (50, 50, 3), np.uint8))
    return [{"image": f"{number}.png", "captions": [f"c{number}"]} for number in range(30)]


def _write(records, root, out, kill_at: int | None) -> None:
    def progress(done: int, total: int) -> None:
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    write_shards(records, root, out, samples_per_shard=5, progress=progress)


def test_two_writers_at_once_and_one_of_them_killed_leave_whole_shards(tmp_path, records):
    write_shards(records, tmp_path, tmp_path / "one", samples_per_shard=5)
    context = get_context("fork")
    writers = [
        context.Process(target=_write, args=(records, tmp_path, tmp_path / "two", kill_at)) for kill_at in (15, None)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [-signal.SIGKILL, 0]
    assert write_shards(records, tmp_path, tmp_path / "two", samples_per_shard=5).num_kept == 6
    found = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert found[0] == found[1]


@pytest.mark.parametrize("kept", [0, 512, 3000, -10_000, -1500])
def test_a_shard_that_is_cut_off_is_made_anew(tmp_path, records, kept):
    write_shards(records, tmp_path, tmp_path / "out", samples_per_shard=10)
    path = tmp_path / "out/shard-000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    assert not is_whole_shard(path)
    assert write_shards(records, tmp_path, tmp_path / "out", samples_per_shard=10).num_kept == 2
    assert path.read_bytes() == whole


def test_a_description_that_is_broken_is_named(tmp_path, records):
    write_shards(records, tmp_path, tmp_path / "out")
    (tmp_path / "out/shards.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"shards\.json is not JSON, or cut off: it is nested too deeply"):
        write_shards(records, tmp_path, tmp_path / "out")


def test_a_picture_that_is_too_large_costs_its_sample(tmp_path):
    bomb = cv2.imencode(".png", np.zeros((17_000, 17_000), np.uint8))[1].tobytes()
    captions, bad = read(tmp_path, archive({**pair("a", "first"), "m.png": bomb, "m.txt": b"x"}))
    assert captions == ["first"] and "s.tar/m.png: 17000 x 17000 pixels" in bad[0] and "max_pixels" in bad[0]
