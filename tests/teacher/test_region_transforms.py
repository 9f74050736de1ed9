"""LoadRegions and EmbedRegions give the same regions, which follow their image through the pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from teacher_parts import Pictures

from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.datasets.transforms import LoadImage, PackSample, RandomFlip, Resize
from openvocab.preprocessor import BatchPreprocessor
from openvocab.structures import Regions
from openvocab.teacher import EmbedRegions, LoadRegions
from openvocab.teacher import region_transforms as regions
from openvocab.teacher.region_cache_writing import write_region_cache
from openvocab.teacher.region_crops import crop_picture, crop_windows
from openvocab.teacher.region_embedder import build_embedder


@pytest.fixture
def cache(teacher, pictures):
    """A finished cache of the pictures; returns its folder."""
    write_region_cache(pictures, build_embedder(teacher), teacher["folder"], images_per_shard=3, embed_dtype="float32")
    return teacher["folder"]


def test_cached_and_online_regions_are_equal(teacher, pictures, cache):
    load, embed = LoadRegions(teacher=teacher), EmbedRegions(teacher)
    for index in range(len(pictures)):
        cached, online = load(pictures[index])["regions"], embed(pictures[index])["regions"]
        assert torch.equal(cached.boxes, online.boxes)
        assert (cached.embed - online.embed).abs().max() < 2e-6


def test_a_gpu_in_a_loader_worker_is_refused_with_the_fix(teacher, pictures, monkeypatch):
    embed = EmbedRegions(teacher)
    monkeypatch.setattr(regions, "get_worker_info", lambda: "one of two workers")
    embed(pictures[0])
    monkeypatch.setattr(embed.embedder.teacher, "device", torch.device("cuda"))
    with pytest.raises(ValueError, match="set num_workers=0 in the loader, or device='cpu'"):
        embed(pictures[0])


def test_the_settings_come_from_the_folder_or_the_teacher(teacher, cache):
    LoadRegions(cache)
    LoadRegions(cache, teacher={key: value for key, value in teacher.items() if key != "folder"})
    with pytest.raises(ValueError, match="teacher.crop is 'center' in the cache, 'squash' in the config"):
        LoadRegions(teacher=teacher | {"crop": "squash"})
    with pytest.raises(ValueError, match="LoadRegions: give it the folder"):
        LoadRegions()
    with pytest.raises(ValueError, match="teacher: no 'proposals'"):
        EmbedRegions({"model": "ViT-Ti-8-shapes"})


def test_regions_reach_the_model_in_the_frame_of_the_input(cache, pictures):
    pipeline = [LoadImage(), LoadRegions(cache), Resize(size=(80, 120)), RandomFlip(1.0), PackSample()]
    packed = Pictures(pictures.folder, pipeline)[0]
    raw = LoadRegions(cache)(pictures[0])["regions"]
    expected = raw.boxes * 2
    expected[:, [0, 2]] = 120 - expected[:, [2, 0]]
    assert torch.equal(packed["sample"].regions.boxes, expected)
    assert torch.equal(packed["sample"].regions.embed, raw.embed)
    batch = BatchPreprocessor([0.0] * 3, [1.0] * 3, 32)(
        {"image": [packed["image"]], "sample": [packed["sample"]]}, True
    )
    assert torch.equal(batch["samples"][0].regions.boxes, expected)


def test_a_flip_keeps_cached_boxes_on_what_the_teacher_saw(cache, pictures):
    """The official parser flips such images twice and their boxes once."""
    results = LoadRegions(cache)(pictures[2])
    before, regions = results["img"].copy(), results["regions"]
    flipped = RandomFlip(1.0)(results)
    assert not np.array_equal(flipped["img"], before)
    pairs = zip(
        *(crop_windows(boxes, before.shape[:2], (1.0, 1.5)) for boxes in (regions.boxes, flipped["regions"].boxes))
    )
    for windows, mirrored in pairs:
        for window, other in zip(windows, mirrored):
            seen = crop_picture(Image.fromarray(before), window, 32, "squash")
            shown = crop_picture(Image.fromarray(flipped["img"]), other, 32, "squash")
            assert np.abs(seen.astype(int) - shown[:, ::-1]).max() <= 1


def test_geometry_before_the_regions_is_an_error(teacher, cache, pictures):
    resized = Resize(size=(20, 30))(pictures[0])
    with pytest.raises(ValueError, match="LoadRegions must come before all geometric"):
        LoadRegions(cache)(dict(resized))
    with pytest.raises(ValueError, match="EmbedRegions must come before all geometric"):
        EmbedRegions(teacher)(resized)


def test_a_data_set_with_more_images_fails_before_its_first_item(cache, pictures):
    for name in ("8", "9"):
        (pictures.folder / f"{name}.png").write_bytes((pictures.folder / "0.png").read_bytes())
    dataset = Pictures(
        pictures.folder, [LoadImage(), LoadRegions(cache), PackSample()], loading=dict(bad_samples="skip")
    )
    with pytest.raises(ValueError, match="lacks 2 images of the dataset: 8, 9;"):
        dataset.full_init()


def test_computed_regions_stay_in_memory(teacher, pictures, monkeypatch):
    embed = EmbedRegions(teacher)
    dataset = Pictures(
        pictures.folder, [LoadImage(), embed, RandomFlip(0.0), PackSample()], loading=dict(cache_images=True)
    )
    first = dataset[3]["sample"].regions
    monkeypatch.delattr(type(embed.embedder), "__call__")
    assert torch.equal(dataset[3]["sample"].regions.embed, first.embed)


def test_a_cache_of_other_labels_is_stale(teacher, pictures, monkeypatch):
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 20], [1, 1, 9, 9]], np.float32)
    table = InstanceTable(np.array([0, 2, 3]), boxes, np.zeros(3, np.int64), np.zeros(3, bool), np.arange(3))
    monkeypatch.setattr(pictures, "load_index", lambda: [
        {"sample_id": str(n), "img_path": str(pictures.folder / f"{n}.png"), "image_position": n} for n in range(2)
    ])  # fmt: skip
    monkeypatch.setattr(pictures, "common_results", lambda: {"instance_table": table})
    teacher = teacher | {"proposals": {"type": "GroundTruthProposals"}}
    write_region_cache(pictures, build_embedder(teacher), teacher["folder"])
    load = LoadRegions(teacher=teacher)
    assert load(pictures[0])["regions"].boxes.tolist() == boxes[:2].tolist()
    table.boxes[2] += 1
    assert len(load(pictures[0])["regions"].boxes) == 2
    with pytest.raises(ValueError, match="1: its labels have changed since"):
        load(pictures[1])


def test_online_boxes_do_not_share_memory_with_labels(teacher, pictures):
    source = torch.ones(1, 4) * torch.tensor([1, 1, 9, 9])
    embed = EmbedRegions(teacher)
    embed.embedder.proposals = lambda results: (source, torch.ones(1))
    regions = embed(pictures[0])["regions"]
    regions.boxes.zero_()
    assert isinstance(regions, Regions) and source.sum() == 20
