"""Several datasets in one stream: by weights, each item once per epoch of its part, and resumed at any draw."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from coco_folder import write_coco
from grounding_folder import write_odvg
from mmengine.hooks import Hook
from tiny_run import tiny_config

from openvocab.datasets import DetectionDataset, GroundingDataset, MixedDataset, MixedSampler, WebCaptionDataset
from openvocab.datasets.contracts import CountsBadSamples, NamesSamples, ResumableOrder, vocabulary_of
from openvocab.datasets.transforms import DetectionPrompt, LoadImage, LoadInstances, PackSample
from openvocab.engine.loader import batches_of
from openvocab.engine.runner import OpenVocabRunner, build_runner
from openvocab.registry import DATA_SAMPLERS, DATASETS, HOOKS
from openvocab.seeding import DrawIndex


class Numbers(torch.utils.data.Dataset):
    """Items that tell where they come from and what they were seeded with."""

    def __init__(self, name, size):
        self.name, self.size = name, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"name": self.name, "index": int(index), "seed": getattr(index, "seed", None)}


def mixed(*sizes):
    return MixedDataset([Numbers(f"part{number}", size) for number, size in enumerate(sizes)])


def draws(sampler, count, start=0):
    sampler.start_at(start)
    return [(int(index), index.seed) for index in islice(iter(sampler), count)]


def test_items_are_those_of_the_parts_in_order():
    dataset = mixed(3, 2)
    assert [(item["name"], item["index"]) for item in (dataset[i] for i in range(5))] == [
        ("part0", 0), ("part0", 1), ("part0", 2), ("part1", 0), ("part1", 1),
    ]  # fmt: skip
    assert len(dataset) == 5 and dataset.name == "part0+part1"
    assert dataset[DrawIndex(4, 99)] == {"name": "part1", "index": 1, "seed": 99}
    with pytest.raises(IndexError, match="no item 5 among 5"):
        dataset[5]


def test_shares_follow_the_weights_exactly_in_every_block():
    dataset = mixed(50, 7, 400)
    sampler = MixedSampler(dataset, weights=[2, 1, 1], block=100, seed=0)
    found = draws(sampler, 1000)
    parts = [0 if index < 50 else 1 if index < 57 else 2 for index, _ in found]
    for start in range(0, 1000, 100):
        assert Counter(parts[start : start + 100]) == {0: 50, 1: 25, 2: 25}
    assert parts[:100] != parts[100:200], "in another order in each block"


def test_each_item_of_a_part_is_drawn_once_before_any_is_drawn_again():
    dataset = mixed(50, 7)
    found = [index for index, _ in draws(MixedSampler(dataset, [3, 1], block=16, seed=4), 1600)]
    for first, size in ((0, 50), (50, 7)):
        of_part = [index - first for index in found if first <= index < first + size]
        epochs = [of_part[start : start + size] for start in range(0, len(of_part) - size, size)]
        assert len(epochs) > 5 and all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert epochs[0] != epochs[1]


@pytest.mark.parametrize("start", [1, 15, 16, 17, 333, 1000])
def test_a_stream_that_is_resumed_is_the_same(start):
    dataset = mixed(50, 7, 31)
    whole = draws(MixedSampler(dataset, [3, 1, 0.5], block=16, seed=4), 1400)
    assert draws(MixedSampler(dataset, [3, 1, 0.5], block=16, seed=4), 400, start) == whole[start : start + 400]
    assert draws(MixedSampler(dataset, [3, 1, 0.5], block=16, seed=5), 400) != whole[:400]


def test_ranks_share_the_draws(monkeypatch):
    dataset, ranks = mixed(50, 7), []
    whole = draws(MixedSampler(dataset, [3, 1], block=16, seed=4), 300)
    for rank in range(3):
        sampler = MixedSampler(dataset, [3, 1], block=16, seed=4)
        sampler.rank, sampler.world_size = rank, 3
        ranks.append(draws(sampler, 100))
    assert [draw for turn in zip(*ranks) for draw in turn] == whole


def test_seeds_differ_between_draws_of_one_item():
    found = draws(MixedSampler(mixed(2, 2), [1, 1], seed=0), 400)
    assert len({seed for _, seed in found}) == 400


def test_shares_are_whole_draws():
    sampler = MixedSampler(mixed(4, 4, 4), [1, 1, 1], block=10, seed=0)
    assert sum(sampler.shares) == 10 and sorted(sampler.shares) == [3, 3, 4]
    assert len(MixedSampler(mixed(30, 10), [1, 1], block=10, seed=0)) == 60


WRONG = {
    "expected a list of 2 numbers": [1],
    r"weights: expected positive numbers, got \[1, 0\]": [1, 0],
    "positive numbers": [1, -1],
    "weights: ": [1, float("nan")],
    "part 1 gets none of the 1000 draws": [1, 1e-9],
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_weights_are_refused(message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(mixed(3, 3), WRONG[message], seed=0)


def test_what_cannot_be_mixed_is_refused():
    stream = WebCaptionDataset.__new__(WebCaptionDataset)
    with pytest.raises(TypeError, match="WebCaptionDataset is a stream"):
        MixedDataset([stream])
    for nothing in ([], dict(type="GroundingDataset")):
        with pytest.raises(ValueError, match="datasets: expected a list"):
            MixedDataset(nothing)
    with pytest.raises(TypeError, match="expected a MixedDataset, got Numbers"):
        MixedSampler(Numbers("a", 3), [1], seed=0)
    with pytest.raises(ValueError, match="part 1 of .* is empty"):
        MixedSampler(mixed(3, 0), [1, 1], seed=0)


def test_prompts_of_detection_and_grounding_data_in_one_stream(tmp_path):
    write_coco(tmp_path)
    write_odvg(tmp_path)
    pipeline = [dict(type=LoadImage), dict(type=LoadInstances), dict(type=DetectionPrompt, tokenizer=len), PackSample()]
    parts = [
        dict(type=DetectionDataset, images="images", annotations="labels.json", root=tmp_path, pipeline=pipeline),
        dict(type=GroundingDataset, images="images", annotations="grounding.jsonl", root=tmp_path, pipeline=pipeline),
    ]
    dataset = DATASETS.build(dict(type="MixedDataset", datasets=parts))
    sampler = DATA_SAMPLERS.build(dict(type=MixedSampler, dataset=dataset, weights=[1, 1], block=4, seed=0))
    assert isinstance(sampler, ResumableOrder)
    assert isinstance(dataset, CountsBadSamples) and isinstance(dataset, NamesSamples)
    loader = torch.utils.data.DataLoader(dataset, 4, sampler=sampler, num_workers=1, collate_fn=list)
    batch = [item["sample"] for item in next(iter(loader))]
    assert sorted(sample.prompt.text.startswith(("A man", "Two")) for sample in batch) == [False, False, True, True]
    for sample in batch:
        assert {*sample.instances.classes.tolist()} <= {*sample.prompt.owners}
    assert vocabulary_of(dataset) is None and dataset.bad_sample_paths == []
    assert dataset.sample_id_of(2).endswith("grounding.jsonl: 1007.jpg#1")


def test_the_vocabulary_that_all_parts_share_is_that_of_the_whole(tmp_path):
    write_coco(tmp_path)
    parts = [DetectionDataset("images", "labels.json", root=tmp_path) for _ in range(2)]
    assert MixedDataset(parts).vocabulary == parts[0].vocabulary


def test_a_block_is_reproducible_across_numpy_states():
    sampler = MixedSampler(mixed(5, 5), [1, 1], seed=3)
    first = draws(sampler, 20)
    np.random.seed(1)
    assert draws(sampler, 20) == first


@HOOKS.register_module()
class StopAt(Hook):
    """Let a run fail after a step."""

    def __init__(self, step):
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.step:
            raise RuntimeError("stopped here")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_resumed_has_the_same_losses(tmp_path, workers):
    """Two parts of 22 items, three to one, 16 steps of 4; the run stops after step 11 and continues at step 8."""

    def train(name, hooks=(), resume=False):
        config = tiny_config(workers=workers, hooks=hooks)
        parts = [dict(type="TinyDataset"), dict(type="TinyDataset")]
        config.train_dataloader.dataset = dict(type="MixedDataset", datasets=parts)
        config.train_dataloader.sampler = dict(type="MixedSampler", weights=[3, 1], block=10)
        build_runner(config, work_dir=tmp_path / name, resume=resume).train()

    train("whole")
    with pytest.raises(RuntimeError, match="stopped here"):
        train("parted", [dict(type="StopAt", step=11)])
    train("parted", resume=True)
    losses = {name: (tmp_path / name / "losses.txt").read_text().splitlines() for name in ("whole", "parted")}
    assert len(losses["whole"]) == 16 and len({line.split()[1] for line in losses["whole"]}) == 16
    assert losses["parted"][11 : 11 + 3] == losses["whole"][8:11], "the steps that were lost are the same again"
    assert losses["parted"][11:] == losses["whole"][8:]


def test_a_sample_at_which_a_worker_fails_is_named_with_its_dataset():
    config = tiny_config(workers=1).train_dataloader.to_dict()
    parts = [dict(type="TinyDataset"), dict(type="TinyDataset", trouble=dict(index=3, kind="exit"))]
    config.update(dataset=dict(type="MixedDataset", datasets=parts), sampler=dict(type="DefaultSampler", shuffle=False))
    loader = OpenVocabRunner.build_dataloader(config, seed=0)
    with pytest.raises(Exception, match="the last sample it began: TinyDataset: item-3") as error:
        with batches_of(loader, "train_dataloader") as batches:
            list(batches)
    assert "\n" not in str(error.value)
