"""A region cache is of one dtype, whichever machine makes, continues or reads it."""

import pytest
import torch
from bfloat16_figures import FAST, SLOW, pretend
from teacher_parts import MODEL, Pictures, write_pictures

from openvocab.clip.open_clip_model import create_clip
from openvocab.datasets.transforms import LoadImage
from openvocab.teacher import LoadRegions
from openvocab.teacher.region_cache import RegionCache
from openvocab.teacher.region_cache_dtype import settle_cache_dtype
from openvocab.teacher.region_cache_writing import write_region_cache
from openvocab.teacher.region_embedder import build_embedder
from openvocab.teacher.region_teacher import RegionTeacher

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path) -> Pictures:
    return Pictures(write_pictures(tmp_path / "pictures"))


@pytest.fixture
def teacher(tmp_path) -> dict:
    torch.manual_seed(0)
    torch.save(create_clip(MODEL).state_dict(), tmp_path / "clip.pth")
    proposals = dict(type="GridProposals")
    folder = str(tmp_path / "cache")
    return dict(model=MODEL, pretrained=str(tmp_path / "clip.pth"), dtype="auto", device="cpu", proposals=proposals,
                folder=folder)  # fmt: skip


def write(pictures: Pictures, teacher: dict) -> None:
    embedder = build_embedder(settle_cache_dtype(teacher, CPU))
    write_region_cache(pictures, embedder, teacher["folder"], images_per_shard=3)


@pytest.mark.parametrize(("gain", "dtype"), [(FAST, "bfloat16"), (SLOW, "float32")])
def test_a_teacher_computes_in_what_is_faster_here(monkeypatch, teacher, gain, dtype):
    pretend(monkeypatch, gain)
    made = RegionTeacher(MODEL, teacher["pretrained"], dtype="auto", device="cpu")
    forced = RegionTeacher(MODEL, teacher["pretrained"], dtype=dtype, device="cpu")
    assert made.facts == forced.facts and made.facts["dtype"] == dtype


@pytest.mark.parametrize(("begun", "now", "dtype"), [(FAST, SLOW, "bfloat16"), (SLOW, FAST, "float32")])
def test_an_interrupted_cache_goes_on_in_its_own_dtype(monkeypatch, tmp_path, pictures, teacher, begun, now, dtype):
    pretend(monkeypatch, begun)
    write(pictures, teacher)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    for lost in ("regions.json", "regions-00001.safetensors", "teacher_dtype.txt"):
        (tmp_path / "cache" / lost).unlink()
    pretend(monkeypatch, now)
    write(pictures, teacher)
    assert RegionCache(teacher["folder"]).teacher_dtype == dtype
    for name in set(whole) - {"teacher_dtype.txt"}:
        assert (tmp_path / "cache" / name).read_bytes() == whole[name]


def test_processes_that_begin_together_agree(monkeypatch, tmp_path, teacher):
    pretend(monkeypatch, SLOW)
    first = settle_cache_dtype(teacher, CPU)
    pretend(monkeypatch, FAST)
    assert first["dtype"] == settle_cache_dtype(teacher, CPU)["dtype"] == "float32"  # no shard is there yet
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["teacher_dtype.txt"]


def test_a_dtype_that_is_forced_is_checked_against_the_cache(monkeypatch, pictures, teacher):
    pretend(monkeypatch, FAST)
    write(pictures, teacher)
    with pytest.raises(ValueError, match="dtype is 'bfloat16' in the cache, 'float32' in the config"):
        write(pictures, {**teacher, "dtype": "float32"})
    with pytest.raises(ValueError, match="dtype is 'bfloat16' in the cache, 'float32' in the config"):
        LoadRegions(teacher={**teacher, "dtype": "float32"})


def test_training_reads_a_cache_of_either_dtype(monkeypatch, tmp_path, pictures, teacher):
    pretend(monkeypatch, FAST)
    write(pictures, teacher)
    pretend(monkeypatch, SLOW)
    read = Pictures(tmp_path / "pictures", [LoadImage(), LoadRegions(teacher=teacher)])
    assert len(read[0]["regions"].embed) > 0
    assert RegionCache(teacher["folder"]).teacher_dtype == "bfloat16"
