"""What parts offer beyond torch and mmcv is written down; parts of other packages offer nothing of it, and work."""

import mmcv.transforms
import pytest
import torch
from tiny_run import TinyDataset

from openvocab.datasets import WebCaptionDataset, contracts
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, LoadInstances, LoadLabels, PackSample, Resize
from openvocab.teacher import EmbedRegions, LoadRegions
from openvocab.vocabulary import Vocabulary


class Foreign(torch.utils.data.Dataset):
    """A dataset as torch asks for it."""

    def __len__(self):
        return 3


class WithClasses(Foreign):
    """One of a user, with class names."""

    @property
    def vocabulary(self):
        return Vocabulary.from_names(["cat", "dog"])


@pytest.mark.parametrize("kind", [LoadImage, LoadInstances, LoadLabels, LoadRegions, EmbedRegions])
def test_what_reads_files_says_so_as_a_class_too(kind):
    assert contracts.reads_files(kind) and contracts.reads_files(kind.__new__(kind)) and not contracts.packs(kind)


def test_only_the_packing_of_a_single_image_packs():
    assert contracts.packs(PackSample()) and not contracts.reads_files(PackSample())
    others = [
        Resize((8, 8)),
        mmcv.transforms.Resize((8, 8)),
        mmcv.transforms.LoadImageFromFile(),
        lambda results: results,
    ]
    assert not any(contracts.packs(other) or contracts.reads_files(other) for other in others)


def test_what_is_made_for_certain_images_is_shown_the_index():
    assert isinstance(LoadRegions.__new__(LoadRegions), contracts.ChecksIndex)
    assert not isinstance(LoadImage(), contracts.ChecksIndex)


def test_a_data_set_of_another_package_offers_nothing():
    for protocol in (
        contracts.NamesClasses,
        contracts.StatesFacts,
        contracts.CountsBadSamples,
        contracts.ResumableStream,
        contracts.NamesSamples,
    ):
        assert not isinstance(Foreign(), protocol)
    assert contracts.vocabulary_of(Foreign()) is None
    assert contracts.vocabulary_of(WithClasses()).class_names == ("cat", "dog")


def test_ours_offer_it():
    dataset = TinyDataset()
    assert isinstance(dataset, contracts.CountsBadSamples) and (dataset.bad_sample_count, dataset.bad_sample_paths) == (
        0,
        [],
    )
    assert isinstance(dataset, contracts.NamesSamples) and dataset.sample_id_of(3) == "item-3"
    assert isinstance(dataset, contracts.StatesFacts) and not isinstance(dataset, contracts.ResumableStream)
    assert isinstance(ResumableSampler(Foreign(), seed=0), contracts.ResumableOrder)
    assert not isinstance(torch.utils.data.SequentialSampler(Foreign()), contracts.ResumableOrder)
    stream = WebCaptionDataset.__new__(WebCaptionDataset)
    assert isinstance(stream, contracts.ResumableStream)
