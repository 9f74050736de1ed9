"""The cache of text embeddings: whatever lies in its folder, the rows are right or absent."""

import multiprocessing
import os
import stat

import pytest
import safetensors.torch
import torch
from time_limit import time_limit

from openvocab.text.embedding_cache import EmbeddingCache

KEY = "a1" * 32
OTHER = "b2" * 32


def rows(*names, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(16, generator=generator) for name in names}


def same(actual, expected):
    return actual.keys() == expected.keys() and all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.fixture
def filled(tmp_path):
    """A folder with one file of three rows, the file, and the rows."""
    expected = rows("cat", "chien café", "🐈")
    EmbeddingCache(tmp_path).add(KEY, expected)
    (file,) = tmp_path.rglob("*.safetensors")
    return tmp_path, file, expected


def test_rows_come_back_bit_for_bit_in_another_process_life(filled):
    folder, _, expected = filled
    assert same(EmbeddingCache(folder).find(KEY, [*expected, "unknown"]), expected)


def test_rows_in_memory_need_no_folder():
    cache = EmbeddingCache()
    cache.add(KEY, rows("cat"))
    assert same(cache.find(KEY, ["cat", "dog"]), rows("cat"))
    cache.clear_memory()
    assert not cache.find(KEY, ["cat"])


def test_another_key_sees_nothing(filled):
    folder, _, expected = filled
    cache = EmbeddingCache(folder)
    cache.find(KEY, expected)
    assert not cache.find(OTHER, expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_folder_is_passed_over(filled, caplog):
    folder, file, expected = filled
    os.mkfifo(file.with_name("a.safetensors"))
    with time_limit(30):
        assert same(EmbeddingCache(folder).find(KEY, expected), expected)
    assert "a.safetensors is not a readable embedding file" in caplog.text and "not a regular file" in caplog.text


def test_a_new_name_adds_a_file_and_leaves_the_old_one_alone(filled):
    folder, file, expected = filled
    before = file.read_bytes()
    EmbeddingCache(folder).add(KEY, rows("dog"))
    assert len(list(folder.rglob("*.safetensors"))) == 2
    assert file.read_bytes() == before
    assert same(EmbeddingCache(folder).find(KEY, [*expected, "dog"]), expected | rows("dog"))


def test_rows_that_another_process_adds_later_are_seen(filled):
    folder, _, expected = filled
    cache = EmbeddingCache(folder)
    cache.find(KEY, expected)
    EmbeddingCache(folder).add(KEY, rows("dog"))
    assert same(cache.find(KEY, ["dog"]), rows("dog"))


def test_memory_is_bounded_and_the_folder_still_serves_what_was_dropped(tmp_path):
    cache = EmbeddingCache(tmp_path, max_rows=4)
    for index in range(10):
        cache.add(KEY, rows(f"name {index}", seed=index))
    assert len(cache._rows) == 4
    assert same(cache.find(KEY, ["name 0"]), rows("name 0", seed=0))


@pytest.mark.parametrize("part", range(20))
def test_a_file_cut_anywhere_is_passed_over(filled, part):
    folder, file, expected = filled
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * part // 20])
    assert not EmbeddingCache(folder).find(KEY, expected)


@pytest.mark.parametrize("part", range(20))
def test_a_file_with_one_changed_byte_gives_no_wrong_row(filled, part):
    folder, file, expected = filled
    content = bytearray(file.read_bytes())
    content[len(content) * part // 20] ^= 0x41
    file.write_bytes(content)
    actual = EmbeddingCache(folder).find(KEY, expected)
    assert not actual or same(actual, expected)


def foreign_contents():
    table = torch.zeros(3, 16)
    yield "empty", b""
    yield "text", b"hello, I am a text file, not a table of embeddings"
    yield "pickle", b"\x80\x04cos\nsystem\n(S'false'\ntR."
    yield "huge header", (2**62).to_bytes(8, "little") + b"{}"
    yield "no metadata", safetensors.torch.save({"rows": table})
    yield "no rows", safetensors.torch.save({"e": table}, {"key": KEY, "names": "[]", "checksum": "0"})
    yield "wrong checksum", safetensors.torch.save({"rows": table}, {"key": KEY, "names": '["cat"]', "checksum": "0"})
    yield "of another key", safetensors.torch.save({"rows": table}, {"key": OTHER, "names": "[]", "checksum": "0"})


@pytest.mark.parametrize(("kind", "content"), list(foreign_contents()))
def test_a_foreign_file_is_passed_over_and_written_anew(filled, kind, content):
    folder, file, expected = filled
    file.write_bytes(content)
    cache = EmbeddingCache(folder)
    assert not cache.find(KEY, expected)
    cache.add(KEY, expected)
    assert same(EmbeddingCache(folder).find(KEY, expected), expected)


def test_a_file_copied_from_another_key_is_refused(filled):
    folder, file, expected = filled
    target = folder / OTHER[:32] / file.name
    target.parent.mkdir()
    target.write_bytes(file.read_bytes())
    assert not EmbeddingCache(folder).find(OTHER, expected)


def test_a_folder_in_the_place_of_a_file_is_passed_over(filled):
    folder, file, expected = filled
    file.unlink()
    file.mkdir()
    cache = EmbeddingCache(folder)
    assert not cache.find(KEY, expected)
    cache.add(KEY, expected)  # cannot be written: a warning, not an error
    assert same(cache.find(KEY, expected), expected)


def test_a_folder_that_cannot_be_made_costs_a_warning_only(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    cache = EmbeddingCache(blocked)
    cache.add(KEY, rows("cat"))
    assert same(cache.find(KEY, ["cat"]), rows("cat"))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes anywhere")
def test_a_read_only_folder_costs_a_warning_only(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    cache = EmbeddingCache(tmp_path)
    cache.add(KEY, rows("cat"))
    assert same(cache.find(KEY, ["cat"]), rows("cat"))
    tmp_path.chmod(stat.S_IRWXU)


def test_no_temporary_file_is_left_when_writing_fails(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    EmbeddingCache(tmp_path).add(KEY, rows("cat"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def write_and_read(folder, worker, queue):
    """Write shared and own rows again and again, reading between; report whether every row read was right."""
    torch.set_num_threads(1)
    right = True
    shared = rows("cat", "dog", "sofa")
    for turn in range(15):
        EmbeddingCache(folder).add(KEY, shared)
        EmbeddingCache(folder).add(KEY, rows(f"{worker} {turn}", seed=worker * 100 + turn))
        actual = EmbeddingCache(folder).find(KEY, shared)
        right &= same(actual, shared)
    queue.put(right)


def test_eight_writers_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=write_and_read, args=(tmp_path, worker, queue)) for worker in range(8)]
    for worker in workers:
        worker.start()
    assert all(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    expected = rows("cat", "dog", "sofa")
    for worker in range(8):
        for turn in range(15):
            expected |= rows(f"{worker} {turn}", seed=worker * 100 + turn)
    assert same(EmbeddingCache(tmp_path).find(KEY, expected), expected)
    assert not list(tmp_path.rglob("*.tmp"))
