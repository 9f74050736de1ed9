"""A head that reads phrases, and what the model gives it; it keeps the contract of all heads."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import pytest
import test_head_contract as contract
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.heads.base import Head, own_prompt
from openvocab.model import OpenVocabModel
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ClassificationPrediction, ImageFeatures, Sample, TextFeatures
from openvocab.text.caption_prompt import caption_prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt

CLIP = dict(model="ViT-Ti-8-shapes", pretrained=None)
CONFIG = dict(
    type="OpenVocabModel",
    backbone=dict(type="CLIPBackbone", **CLIP),
    text_encoder=dict(type="CLIPTextEncoder", **CLIP),
    head=dict(type="PhraseMatchHead"),
)


@HEADS.register_module()
class PhraseMatchHead(Head):
    """Scores a phrase by the mean product of its tokens with a learned map of the image's embedding."""

    reads_phrases = True

    def __init__(self, backbone: BackboneSpec, text_dim: int, names_at_once: int | None = None) -> None:
        super().__init__()
        self.project = nn.Linear(backbone.embed_dim, text_dim)
        self.names_at_once = names_at_once
        self.texts = []

    def phrase_scores(self, features: ImageFeatures, text: TextFeatures) -> list[Tensor]:
        """Return scores (B, P) of the phrases of each prompt."""
        self.texts.append(text)
        products = torch.einsum("bd,qtd->bqt", self.project(features.image_embed), text.tokens.embed)
        means = [masks.float() / masks.sum(1, keepdim=True) for masks in text.tokens.phrases]  # (P, T)
        return [products[:, index] @ weights.T for index, weights in enumerate(means)]

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        scores, owners = torch.cat(self.phrase_scores(features, text), dim=1), torch.cat(text.tokens.owners)
        logits = scores.new_zeros(len(scores), text.num_classes)
        return logits.scatter_reduce(1, owners.expand_as(scores), scores, "amax", include_self=False)

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        scores = self.phrase_scores(features, text)
        losses = [
            F.binary_cross_entropy_with_logits(
                of_prompt[index], torch.isin(owners, torch.tensor(sample.class_ids)) * 1.0
            )
            for index, (of_prompt, owners, sample) in enumerate(zip(scores, text.tokens.owners, samples, strict=True))
        ]
        return {"loss_phrases": torch.stack(losses).mean()}

    def postprocess(self, outputs: Tensor, samples: Sequence[Sample]) -> list[ClassificationPrediction]:
        return [
            ClassificationPrediction(logits.float(), sample.vocabulary, sample.sample_id)
            for logits, sample in zip(outputs, samples, strict=True)
        ]


@pytest.fixture(scope="module")
def case() -> contract.Case:
    return contract.Case(contract.build(CONFIG, seed=0), CONFIG, trainable=True)


globals().update(
    {
        name: function
        for name, function in vars(contract).items()
        if name.startswith("test_") and "case" in inspect.signature(function).parameters
    }
)
"""The tests of the contract, with the case above."""


@pytest.fixture
def model(case) -> OpenVocabModel:
    case.model.eval().head.texts.clear()
    return case.model


def batch(model: OpenVocabModel, **changes) -> dict:
    made = model.data_preprocessor(contract.make_batch(contract.FEW, (64, 64)))
    made["samples"] = [replace(sample, **changes) for sample in made["samples"]]
    return made


def test_the_names_of_a_vocabulary_are_read_in_as_few_prompts_as_asked_for(model):
    vocabulary = Vocabulary.from_names(["dog", ["sofa", "couch"], "cat", "nothing"], background="nothing")
    (owners,) = model.encode_texts(vocabulary).tokens.owners
    assert owners.tolist() == [0, 1, 1, 2]
    few = contract.build(CONFIG | dict(head=dict(type="PhraseMatchHead", names_at_once=2)), seed=0)
    text = few.encode_texts(vocabulary)
    assert [owners.tolist() for owners in text.tokens.owners] == [[0], [1, 1], [2]]
    assert text.num_classes == 4


def test_a_vocabulary_longer_than_the_text_encoder_reads_is_divided(model):
    names = [f"{first} {second}" for first in ("red", "green", "blue") for second in "abcdefghijklmnopqrstuvwxyz"]
    tokens = model.encode_texts(Vocabulary.from_names(names)).tokens
    assert torch.cat(tokens.owners).tolist() == list(range(len(names)))
    assert len(tokens.owners) > 1 and tokens.ids.shape[1] <= model.text_encoder.token_budget + 2
    with pytest.raises(ValueError, match="class 1: its names have 301 tokens together"):
        model.encode_texts(Vocabulary.from_names(["dog", "dog " * 299 + "dog"]))


def test_each_sample_with_a_prompt_is_compared_with_it_alone(model):
    made = model.data_preprocessor(contract.make_batch(contract.FEW, (64, 64)))
    prompts = [caption_prompt("a star beside a circle", ["star", "a circle"]), names_prompt(["blue star"], [0])]
    samples = [
        replace(sample, prompt=prompt, vocabulary=prompt.vocabulary)
        for sample, prompt in zip(made["samples"], prompts, strict=True)
    ]
    with torch.no_grad():
        predictions = model.predict(made["images"], samples)
        alone = [
            model.head(model.encode(made["images"][i : i + 1]), model.text_encoder.with_tokens([prompt]))[0]
            for i, prompt in enumerate(prompts)
        ]
    assert [prediction.class_names for prediction in predictions] == [("star", "a circle"), ("blue star",)]
    for prediction, expected in zip(predictions, alone, strict=True):
        torch.testing.assert_close(prediction.logits, expected)


def test_samples_without_a_prompt_stay_in_one_batch(model):
    with torch.no_grad():
        model.predict(**batch(model))
    assert len(model.head.texts) == 1


def test_training_reads_the_prompt_of_each_sample(model):
    made = batch(model)
    prompts = [names_prompt(["red circle"], [1]), names_prompt(["blue star", "red circle"], [2, 1])]
    made["samples"] = [replace(sample, prompt=prompt) for sample, prompt in zip(made["samples"], prompts)]
    model.loss(**made)
    assert [owners.tolist() for owners in model.head.texts[0].tokens.owners] == [[1], [2, 1]]
    with pytest.raises(ValueError, match="sample 'image0' has no prompt; its dataset must provide one"):
        model.loss(**batch(model))


def test_a_prompt_of_other_classes_is_named(model):
    made = batch(model, prompt=names_prompt(["dog"], [7]))
    for call in (model.loss, model.predict):
        with pytest.raises(ValueError, match="'image0' belongs to class 7, and the vocabulary has 3 classes"):
            call(**made)
    assert own_prompt(replace(made["samples"][0], vocabulary=None)).owners == (7,)


def test_a_text_encoder_without_tokens_is_named():
    texts = dict(type="OneHotTextEncoder", classes=["dog", "cat"])
    model = contract.build(CONFIG | dict(text_encoder=texts), seed=0)
    with pytest.raises(ValueError, match="OneHotTextEncoder has no token outputs; this head needs a text tower"):
        model.encode_texts(Vocabulary.from_names(["dog", "cat"]))
