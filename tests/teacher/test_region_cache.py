"""The cache of regions: whole after any kill, read without copies of it all, and never taken for another one."""

import json
import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from openvocab.clip.open_clip_model import create_clip
from openvocab.teacher.region_cache import MANIFEST, RegionCache
from openvocab.teacher.region_cache_writing import write_region_cache
from openvocab.teacher.region_embedder import build_embedder
from openvocab.teacher.region_shard import FORMAT, OLD_FORMAT

SHARDS = 4
"""Of the seven images, two a shard."""


@pytest.fixture
def embedder(teacher):
    return build_embedder(teacher)


def write(pictures, embedder, folder, **options):
    return write_region_cache(pictures, embedder, folder, **{"images_per_shard": 2} | options)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def run_and_be_killed(*arguments, **options) -> None:
    """Write a cache in a forked process that ends by SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=write, args=arguments, kwargs=options)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def kill_at_image(number: int):
    return lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done == number else None


def test_what_is_read_is_what_was_computed(tmp_path, pictures, embedder):
    written = write(pictures, embedder, tmp_path / "cache", embed_dtype="float32")
    assert (written.num_shards, written.num_new, written.is_finished) == (SHARDS, SHARDS, True)
    cache = RegionCache(tmp_path / "cache")
    expected = embedder(pictures[index] for index in range(len(pictures)))
    for index, regions in enumerate(expected):
        found = cache.regions(str(index), pictures[index]["img"].shape[:2])
        assert torch.equal(found.boxes, regions.boxes) and found.boxes.dtype == torch.float32
        assert (found.embed - regions.embed).abs().max() < 1e-6 and found.embed.dtype == torch.float32


def test_half_precision_turns_embeddings_by_less_than_its_rounding(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path / "half")
    write(pictures, embedder, tmp_path / "full", embed_dtype="float32")
    half, full = (RegionCache(tmp_path / name).regions("0", (40, 60)).embed for name in ("half", "full"))
    assert 0 < (half - full).norm(dim=1).max() < 2**-11
    sizes = [sum(map(len, content(tmp_path / name).values())) for name in ("half", "full")]
    assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize("image", [1, 2, 3, 6])
def test_a_killed_run_is_continued_to_equal_bits(tmp_path, pictures, embedder, image):
    write(pictures, embedder, tmp_path / "whole")
    run_and_be_killed(pictures, embedder, tmp_path / "killed", progress=kill_at_image(image))
    assert MANIFEST not in content(tmp_path / "killed")
    again = write(pictures, embedder, tmp_path / "killed")
    assert again.is_finished and again.num_new == SHARDS - (image - 1) // 2
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_kill_between_writing_and_renaming_leaves_nothing(tmp_path, pictures, embedder, monkeypatch):
    write(pictures, embedder, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: os.kill(os.getpid(), signal.SIGKILL))
        run_and_be_killed(pictures, embedder, tmp_path / "killed")
    assert [name.endswith(".saving") for name in content(tmp_path / "killed")] == [True]
    write(pictures, embedder, tmp_path / "killed")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize("kept", [0, 0.001, 0.5, 0.99])
def test_damaged_files_are_made_anew_and_no_others(tmp_path, pictures, embedder, kept):
    folder = tmp_path / "cache"
    write(pictures, embedder, folder)
    before = content(folder)
    shard = folder / "regions-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[: int(kept * shard.stat().st_size)])
    (folder / "regions-00001.safetensors").unlink()
    assert write(pictures, embedder, folder).num_new == 2
    assert content(folder) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_is_made_anew(tmp_path, pictures, embedder):
    folder = tmp_path / "cache"
    write(pictures, embedder, folder)
    before = content(folder)
    (folder / "regions-00001.safetensors").unlink()
    os.mkfifo(folder / "regions-00001.safetensors")
    writer = multiprocessing.get_context("fork").Process(target=write, args=(pictures, embedder, folder))
    writer.start()  # a process of its own: nothing but its end gets safetensors out of waiting
    writer.join(100)
    writer.kill()
    assert writer.exitcode == 0 and content(folder) == before


def test_any_flipped_bit_is_noticed_and_that_file_made_anew(tmp_path, pictures, embedder):
    folder = tmp_path / "cache"
    write(pictures, embedder, folder)
    before = content(folder)
    shard = folder / "regions-00001.safetensors"
    whole = shard.read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=150).tolist() + [len(whole) - 1]:
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="regions-00001.safetensors is missing or damaged; run tools/cache_region"):
            RegionCache(folder).regions("2", (30, 80))
        assert len(RegionCache(folder).regions("0", (40, 60)).boxes) > 0
    assert write(pictures, embedder, folder).num_new == 1
    assert content(folder) == before


def test_a_shard_of_another_teacher_is_noticed(tmp_path, pictures, embedder, teacher):
    other = build_embedder(teacher | {"crop": "squash"})
    for name, of in (("cache", embedder), ("other", other)):
        write(pictures, of, tmp_path / name)
    shard = "regions-00001.safetensors"
    original = (tmp_path / "cache" / shard).read_bytes()
    (tmp_path / "cache" / shard).write_bytes((tmp_path / "other" / shard).read_bytes())
    with pytest.raises(
        ValueError, match=f"{shard} belongs to another cache; remove it and run tools/cache_region_embedd"
    ):
        RegionCache(tmp_path / "cache").regions("2", (30, 80))
    (tmp_path / "cache" / shard).unlink()
    write(pictures, embedder, tmp_path / "cache")
    assert (tmp_path / "cache" / shard).read_bytes() == original


def test_a_flipped_bit_of_the_manifest_is_noticed_and_it_is_made_anew(tmp_path, pictures, embedder):
    folder = tmp_path / "cache"
    write(pictures, embedder, folder)
    before, manifest = content(folder), folder / MANIFEST
    for place in range(0, len(before[MANIFEST]), 37):
        damaged = bytearray(before[MANIFEST])
        damaged[place] ^= 1 << place % 8
        manifest.write_bytes(damaged)
        try:
            found = RegionCache(folder).regions("2", (30, 80))
        except ValueError as error:
            assert MANIFEST in str(error) and "run tools/cache_region_embeddings.py again" in str(error)
        else:  # white space between two members
            assert torch.equal(found.embed, RegionCache(folder).regions("2", (30, 80)).embed)
            assert json.loads(damaged) == json.loads(before[MANIFEST])
    assert write(pictures, embedder, folder).num_new == 0
    assert content(folder) == before


@pytest.mark.parametrize("text", ["[]", "null", "[" * 100_000, "\ufeff{}", '{"format": ["x"]}'])
def test_a_manifest_of_another_form_is_one_line(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"{MANIFEST} is missing or damaged; run tools/cache_region_embeddings"):
        RegionCache(tmp_path)


def test_a_cache_of_the_version_without_checksums_is_made_anew(tmp_path, pictures, embedder):
    """The older format: another name in the metadata, and no checksums."""
    folder = tmp_path / "cache"
    write(pictures, embedder, folder)
    before = content(folder)
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as shard:
            tensors = {name: shard.get_tensor(name) for name in shard.keys()}
            header = json.loads(shard.metadata()[FORMAT])
        del header["checksum"]
        safetensors.torch.save_file(tensors, path, {OLD_FORMAT: json.dumps(header)})
    manifest = {key: value for key, value in json.loads(before[MANIFEST]).items() if key != "checksum"}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": OLD_FORMAT}))
    with pytest.raises(ValueError, match="of an older version, without checksums; run tools/cache_region_embeddings"):
        RegionCache(folder)
    assert write(pictures, embedder, folder).num_new == SHARDS
    assert content(folder) == before


def test_a_finished_cache_is_left_alone(tmp_path, pictures, embedder):
    folder = tmp_path / "cache"
    write(pictures, embedder, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = write(pictures, embedder, folder)
    assert again.num_new == 0 and again.is_finished
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_processes_share_the_shards_out_and_the_last_one_finishes(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path / "one")
    parts = [write(pictures, embedder, tmp_path / "three", rank=rank, world_size=3) for rank in (1, 2, 0)]
    assert [part.num_new for part in parts] == [1, 1, 2]
    assert [part.is_finished for part in parts] == [False, False, True]
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_progress_counts_what_is_left(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path)
    (tmp_path / "regions-00001.safetensors").unlink()
    (tmp_path / "regions-00003.safetensors").unlink()
    seen = []
    write(pictures, embedder, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_images_without_proposals_are_legal(tmp_path, pictures, embedder):
    some = torch.ones(2, 4) * 5, torch.tensor([0.75, 0.25])
    embedder.proposals = lambda results: tuple(part[:0] for part in some) if results["sample_id"] in "0123" else some
    embedder.proposals.facts = {"type": "few"}
    write(pictures, embedder, tmp_path)
    cache = RegionCache(tmp_path)
    assert cache.regions("1", (64, 64)).embed.shape == (0, embedder.teacher.embed_dim)
    assert cache.regions("1", (64, 64)).boxes.shape == (0, 4)
    assert cache.regions("5", (33, 47)).embed.shape == (2, embedder.teacher.embed_dim)
    assert cache.regions("5", (33, 47)).objectness.tolist() == [0.75, 0.25]


def test_unreadable_images_stop_it_or_get_no_regions(tmp_path, pictures, embedder):
    (tmp_path / "pictures/2.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="2.png"):
        write(pictures, embedder, tmp_path / "cache")
    write(pictures, embedder, tmp_path / "cache", skip_bad=True)
    cache = RegionCache(tmp_path / "cache")
    assert len(cache.regions("3", (50, 50)).boxes) > 0
    with pytest.raises(ValueError, match="2: the image is 30x80 .*could not be read when"):
        cache.regions("2", (30, 80))


@pytest.mark.parametrize(
    "change, difference",
    [
        ({"crop": "squash"}, "teacher.crop is 'center' in the cache, 'squash' in the config"),
        ({"scales": (1.0,)}, r"teacher.scales is \[1.0, 1.5\] in the cache, \[1.0\] in the config"),
        ({"model": "ConvNet-8-shapes"}, "teacher.model is 'ViT-Ti-8-shapes' in the cache, 'ConvNet-8-shapes'"),
        ({"proposals": {"type": "GridProposals", "sizes": (0.5,), "stride": 1.0}}, r"proposals.sizes is \[0.5, 0.75\]"),
        ({"proposals": {"type": "GroundTruthProposals"}}, "proposals.type is 'GridProposals' in the cache, 'Ground"),
        ({"pretrained": "other"}, "teacher.weights is '.{12}' in the cache, '.{12}' in the config"),
    ],
    ids=["crop", "scales", "model", "sizes", "source", "weights"],
)
def test_a_cache_of_something_else_is_refused_by_name(tmp_path, pictures, teacher, embedder, change, difference):
    write(pictures, embedder, tmp_path / "cache")
    torch.manual_seed(7)
    if "pretrained" in change or "model" in change:
        torch.save(create_clip(change.get("model", teacher["model"])).state_dict(), tmp_path / "other.pth")
        change = change | {"pretrained": str(tmp_path / "other.pth")}
    other = build_embedder(teacher | change)
    with pytest.raises(ValueError, match=f"stale or from another teacher: {difference}"):
        RegionCache(tmp_path / "cache").check_settings(json.loads(json.dumps(other.facts)))
    with pytest.raises(ValueError, match=f"holds another cache: {difference}"):
        write(pictures, other, tmp_path / "cache")


def test_a_folder_of_other_images_or_options_is_refused(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path / "cache")
    with pytest.raises(ValueError, match="embed_dtype is 'float16' in the cache, 'float32'"):
        write(pictures, embedder, tmp_path / "cache", embed_dtype="float32")
    (tmp_path / "pictures/6.png").unlink()
    pictures._index = None
    with pytest.raises(ValueError, match="images.count is 7 in the cache, 6"):
        write(pictures, embedder, tmp_path / "cache")


def test_lacking_images_are_counted_and_named(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path / "cache")
    cache = RegionCache(tmp_path / "cache")
    cache.check_images(["0", "6"])
    with pytest.raises(ValueError, match=r"lacks 8 images of the dataset: a0, a1, a2, a3, a4, \.\.\.;"):
        cache.check_images(["0", *(f"a{number}" for number in range(8))])
    with pytest.raises(ValueError, match="lacks 1 images of the dataset: x;"):
        cache.regions("x", (2, 2))


def test_a_missing_cut_off_or_foreign_file_is_named(tmp_path, pictures, embedder):
    with pytest.raises(FileNotFoundError, match="no finished region cache in .*run tools/cache_region_embeddings.py"):
        RegionCache(tmp_path)
    write(pictures, embedder, tmp_path / "cache")
    manifest = tmp_path / "cache" / MANIFEST
    text = manifest.read_text()
    for damage in (text[: len(text) // 2], json.dumps({"format": json.loads(text)["format"]})):
        manifest.write_text(damage)
        with pytest.raises(ValueError, match=f"{MANIFEST} is missing or damaged; run tools/cache_region"):
            RegionCache(tmp_path / "cache")
    manifest.write_text(text)
    shard = tmp_path / "cache/regions-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="regions-00001.safetensors is missing or damaged; run tools/cache_region"):
        RegionCache(tmp_path / "cache")
    shard.write_bytes(b"x" * len(whole))
    cache = RegionCache(tmp_path / "cache")
    assert len(cache.regions("0", (40, 60)).boxes) > 0
    with pytest.raises(ValueError, match="regions-00001.safetensors is missing or damaged"):
        cache.regions("2", (30, 80))


def test_another_size_of_the_image_is_an_error(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path / "cache")
    with pytest.raises(ValueError, match="0: the image is 60x40 .*but was 40x60"):
        RegionCache(tmp_path / "cache").regions("0", (60, 40))


def test_a_cache_goes_to_loader_workers(tmp_path, pictures, embedder):
    write(pictures, embedder, tmp_path / "cache")
    cache = RegionCache(tmp_path / "cache")
    before = cache.regions("4", (40, 60))
    again = pickle.loads(pickle.dumps(cache)).regions("4", (40, 60))
    assert torch.equal(again.embed, before.embed)
    before.embed.zero_(), before.boxes.zero_()  # a copy: nobody else sees it
    assert torch.equal(cache.regions("4", (40, 60)).embed, again.embed)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(_embed_of, (cache,)), again.embed.numpy())


def _embed_of(cache):
    return cache.regions("4", (40, 60)).embed.numpy()


def test_two_images_of_one_id_are_refused(tmp_path, pictures, embedder, monkeypatch):
    items = [*pictures.load_index(), {"sample_id": "3", "img_path": "elsewhere/3.png"}]
    monkeypatch.setattr(pictures, "load_index", lambda: items)
    with pytest.raises(ValueError, match="two images have the id '3'"):
        write(pictures, embedder, tmp_path / "cache")
