"""A fixed list of classes as text rows."""

import pytest
import torch

from openvocab.registry import TEXT_ENCODERS
from openvocab.text.one_hot import OneHotTextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = ["cat", ["sofa", "couch"], "frog"]


def test_the_whole_list_gives_the_identity_and_a_part_its_rows():
    encoder = TEXT_ENCODERS.build(dict(type="OneHotTextEncoder", classes=NAMES))
    text = encoder(Vocabulary.from_names(NAMES))
    assert torch.equal(text.embed, torch.eye(3)) and text.num_classes == encoder.embed_dim == 3
    assert text.logit_scale.item() == 1 and not encoder.state_dict()
    part = encoder(Vocabulary.from_names(["Frog", "couch"]))  # case does not count; any synonym will do
    assert torch.equal(part.embed, torch.eye(3)[[2, 1]])
    assert encoder.knows(["settee", "couch"]) and not encoder.knows(["settee"])


def test_a_list_of_the_package_and_a_names_file(tmp_path):
    assert OneHotTextEncoder("pascal_voc_20").embed_dim == 20
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert OneHotTextEncoder(tmp_path / "names.txt").embed_dim == 2


def test_what_is_not_in_the_list_is_named():
    encoder = OneHotTextEncoder(NAMES)
    with pytest.raises(ValueError, match="3 fixed classes, and 1 of the 2 .* among them: 'truck'"):
        encoder(Vocabulary.from_names(["cat", "truck"]))
    with pytest.raises(ValueError, match="match the same fixed class"):
        encoder(Vocabulary.from_names(["sofa", "couch"]))
    with pytest.raises(ValueError, match="cannot encode captions"):
        encoder(["a photo of a cat"])
    with pytest.raises(ValueError, match="given twice"):
        OneHotTextEncoder(["cat", "cat"])
    with pytest.raises(ValueError, match="no class list 'nonsense'"):
        OneHotTextEncoder("nonsense")
