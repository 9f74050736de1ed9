"""What every registered head promises, checked on its Shapes config. A new head is covered by adding that config."""

import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from config_parts import CONFIGS, without_weights
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import openvocab.heads
from openvocab.config.config import read_config
from openvocab.model import OpenVocabModel
from openvocab.predictor.remembered_features import RememberedFeatures
from openvocab.registry import HEADS, MODELS
from openvocab.structures import (
    ClassificationPrediction,
    DetectionPrediction,
    Instances,
    Regions,
    Sample,
    SemanticPrediction,
)
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt

HEADS.import_from_location()
# other tests register heads of their own
NAMES = sorted(name for name, head in HEADS.module_dict.items() if head.__module__.startswith("openvocab."))
FEW = Vocabulary.from_names(["background", "red circle", "blue star"], background="background")
COLORS, FORMS = ("red", "green", "blue"), ("disc", "box", "ring")
EMBED_DIM = 128  # of the Shapes CLIP, whose regions a teacher embeds
MANY = Vocabulary.from_names([f"{color} {form}" for color in COLORS for form in FORMS])


@dataclass
class Case:
    """A head inside its Shapes model, how to make another of it, and whether it can be trained."""

    model: OpenVocabModel
    config: dict
    trainable: bool


@pytest.fixture(scope="module", params=NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    init_default_scope("openvocab")
    own = [config for config in shapes_configs() if request.param in _names(config.model.head.type)]
    if not own:
        pytest.fail(f"{request.param} has no configs/*_shapes.py; every head needs one")
    config = min(own, key=lambda config: config.get("train_cfg") is None)  # the first that trains, if one does
    part = without_weights(config.model.to_dict())
    return Case(build(part, seed=0), part, trainable=config.get("train_cfg") is not None)


@cache
def shapes_configs() -> list[Config]:
    """Read all configs of the Shapes world, once."""
    return [read_config(path) for path in CONFIGS if path.stem.endswith("_shapes")]


def _names(head: Any) -> tuple[Any, str]:
    """Return what a config may call a head: the class, or its name."""
    return head, getattr(head, "__name__", "")


def build(config: dict, seed: int) -> OpenVocabModel:
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(config))


def make_batch(vocabulary: Vocabulary, size: tuple[int, int], seed: int = 0, prompts: bool = False) -> dict:
    """Two images of `size` (H, W), with every kind of target; `prompts` gives each a text of its own."""
    generator = torch.Generator().manual_seed(seed)
    images, samples = [], []
    for index in range(2):
        images.append(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        label_map = torch.randint(0, len(vocabulary), size, generator=generator, dtype=torch.uint8)
        samples.append(
            Sample(
                sample_id=f"image{index}",
                vocabulary=vocabulary,
                original_size=original_size(size),
                input_size=size,
                label_map=label_map,
                captions=(f"a photo of a {vocabulary.class_names[index]}", *vocabulary.class_names[:3]),
                class_ids=(index,),
                instances=make_instances(len(vocabulary), size, generator),
                regions=make_regions(size, generator),
                prompt=make_prompt(vocabulary) if prompts else None,
            )
        )
    return {"image": images, "sample": samples}


def make_instances(num_classes: int, size: tuple[int, int], generator: torch.Generator) -> Instances:
    boxes = make_boxes(size, generator)
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist()):
        mask[top:bottom, left:right] = True
    return Instances(boxes, torch.randint(0, num_classes, (len(boxes),), generator=generator), masks)


def make_regions(size: tuple[int, int], generator: torch.Generator) -> Regions:
    boxes = make_boxes(size, generator)
    embed = torch.randn(len(boxes), EMBED_DIM, generator=generator)
    return Regions(boxes, torch.nn.functional.normalize(embed, dim=1), torch.rand(len(boxes), generator=generator))


def make_prompt(vocabulary: Vocabulary) -> Prompt:
    """All names in one text, but that of the background."""
    classes = [index for index in range(len(vocabulary)) if index != vocabulary.background]
    return names_prompt([vocabulary.class_names[index] for index in classes], classes)


def make_boxes(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Three boxes (3, 4) of 10 to 20 pixels within `size` (H, W)."""
    sides = torch.randint(10, 20, (3, 2), generator=generator)
    corners = (torch.rand(3, 2, generator=generator) * (torch.tensor(size[::-1]) - sides)).floor()
    return torch.cat([corners, corners + sides], dim=1).float()


def original_size(size: tuple[int, int]) -> tuple[int, int]:
    """Of the file that became an input of `size`: shrunk, and by another factor along each side."""
    return size[0] + 9, 2 * size[1] + 1


def run(model: OpenVocabModel, vocabulary: Vocabulary, size: tuple[int, int], mode: str, training: bool = False):
    batch = model.data_preprocessor(make_batch(vocabulary, size, prompts=training), training)
    return model(**batch, mode=mode)


@pytest.mark.parametrize("size", [(64, 64), (40, 90)])
@pytest.mark.parametrize("vocabulary", [FEW, MANY], ids=["few", "many"])
def test_predicts_in_the_original_frame_for_any_size_and_vocabulary(case: Case, size, vocabulary):
    case.model.eval()
    with torch.no_grad():
        predictions = run(case.model, vocabulary, size, "predict")
    assert [prediction.sample_id for prediction in predictions] == ["image0", "image1"]
    for prediction in predictions:
        assert prediction.vocabulary == vocabulary
        if isinstance(prediction, SemanticPrediction):
            assert prediction.label_map.shape == original_size(size)
            assert prediction.label_map.max() < len(vocabulary)
        elif isinstance(prediction, DetectionPrediction):
            height, width = original_size(size)
            assert len(prediction.boxes) == len(prediction.scores) == len(prediction.classes) > 0
            assert (prediction.boxes >= 0).all() and (prediction.boxes <= torch.tensor([width, height] * 2)).all()
            assert (prediction.scores.diff() <= 0).all()
            assert set(prediction.classes.tolist()) <= set(range(len(vocabulary))) - {vocabulary.background}
            assert prediction.masks is None or prediction.masks[0]["size"] == [height, width]
        else:
            assert isinstance(prediction, ClassificationPrediction)
            assert prediction.logits.shape == (len(vocabulary),)


def test_whole_images_are_embedded_in_the_space_of_the_texts_or_not_at_all(case: Case):
    batch = case.model.eval().data_preprocessor(make_batch(FEW, (64, 64)), False)
    with torch.no_grad():
        features = case.model.encode(batch["images"])
        try:
            embed = case.model.head.embed_images(features)
        except ValueError as error:
            assert "no embedding of whole images" in str(error) and not case.model.head.embeds_images
        else:
            assert case.model.head.embeds_images
            assert embed.shape == (2, case.model.text_encoder.embed_dim)


def test_permuting_the_classes_permutes_the_logits(case: Case):
    case.model.eval()
    order = np.random.default_rng(0).permutation(len(MANY)).tolist()
    with torch.no_grad():
        logits = class_logits(run(case.model, MANY, (64, 64), "tensor"))
        permuted = permuted_logits(case.model, order)
    torch.testing.assert_close(logits[:, order], permuted, atol=1e-5, rtol=1e-4)


def permuted_logits(model: OpenVocabModel, order: list[int]) -> torch.Tensor:
    """Return the logits of MANY in another order."""
    if not model.head.reads_phrases:
        return class_logits(run(model, MANY.subset(order), (64, 64), "tensor"))
    # names that are read together depend on each other: the text is the same, only its phrases change their classes
    images, text = model.data_preprocessor(make_batch(MANY, (64, 64)))["images"], model.encode_texts(MANY)
    rank = torch.tensor(order).argsort()
    tokens = replace(text.tokens, owners=[rank[owners] for owners in text.tokens.owners])
    return class_logits(model.head(model.encode(images), replace(text, tokens=tokens)))


def test_logits_in_parts_cost_nothing_until_they_are_read(case: Case):
    model = case.model.eval()
    images = model.data_preprocessor(make_batch(FEW, (64, 96)))["images"]
    with torch.inference_mode():
        features, text = model.encode(images), model.encode_texts(FEW)
        with FlopCounterMode(display=False) as counter:
            maps = model.head.logit_maps(features, text)
        assert counter.get_total_flops() == 0  # where memory suffices, `forward` does all of it again
        if maps is not None:
            expected = class_logits(model.head(features, text)).float()
            torch.testing.assert_close(torch.stack([part.whole() for part in maps]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("vocabulary", [FEW, MANY], ids=["few", "many"])
def test_scores_are_highest_at_the_labels(case: Case, vocabulary):
    head, model = case.model.head, case.model.eval()
    batch = model.data_preprocessor(make_batch(vocabulary, (40, 90)))
    with torch.inference_mode():
        labels = model.predict(*batch.values())
        if not isinstance(labels[0], SemanticPrediction):
            assert not head.has_scores
            return
        for (prediction, scores), expected in zip(model.predict_with_scores(*batch.values()), labels, strict=True):
            values = scores.whole()
            assert np.array_equal(prediction.label_map, expected.label_map)
            assert values.shape == (len(vocabulary), *original_size((40, 90)))
            assert values.min() >= 0 and values.max() <= 1
            at_labels = values.gather(0, torch.from_numpy(prediction.label_map.astype(np.int64))[None])[0]
            # up to rounding: labels are made of logits, scores of their softmax
            torch.testing.assert_close(at_labels, values.amax(dim=0), rtol=1e-4, atol=1e-6)


def test_what_labels_and_scores_have_in_common_is_computed_once(case: Case):
    model = case.model.eval()
    if not model.head.has_scores:
        return
    batch = model.data_preprocessor(make_batch(MANY, (64, 96)))
    with torch.inference_mode():
        model.predict(*batch.values())  # embeds the names
        with ElementCounter() as labels:
            model.predict(*batch.values())
        with ElementCounter() as both:
            kept = model.predict_with_scores(*batch.values())
    assert len(kept) == 2
    assert both.total <= 1.01 * labels.total  # up to the positions of rows and columns; no score is read


class ElementCounter(TorchDispatchMode):
    """Counts the elements of all tensors that operations compute within its context; views are none."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(output.alias_info for output in func._schema.returns):
            parts = result if isinstance(result, (tuple, list)) else [result]
            self.total += sum(part.numel() for part in parts if isinstance(part, torch.Tensor))
        return result


def test_another_vocabulary_on_the_same_images_needs_no_backbone(case: Case):
    model = case.model.eval()
    encoder = RememberedFeatures(model)
    with torch.inference_mode():
        for number, vocabulary in enumerate((FEW, MANY, FEW)):
            batch = model.data_preprocessor(make_batch(vocabulary, (64, 64)))
            calls: list[int] = []
            handle = model.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
            actual = model.predict(batch["images"], batch["samples"], encoder)
            handle.remove()
            assert bool(calls) == (number == 0)
            assert all(map(same, actual, model.predict(batch["images"], batch["samples"])))


def same(one: Any, other: Any) -> bool:
    """Return whether two predictions are equal."""
    if isinstance(one, SemanticPrediction):
        return np.array_equal(one.label_map, other.label_map)
    if isinstance(one, ClassificationPrediction):
        return torch.equal(one.logits, other.logits)
    return torch.equal(one.boxes, other.boxes) and torch.equal(one.scores, other.scores) and one.masks == other.masks


def class_logits(outputs: Any) -> torch.Tensor:
    """Return logits with the classes along dimension 1."""
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


def test_gradients_reach_exactly_the_trainable_parameters(case: Case):
    if not case.trainable:
        with pytest.raises(ValueError, match="train"):
            run(case.model, FEW, (64, 64), "loss", training=True)
        return
    case.model.train()
    case.model.zero_grad(set_to_none=True)
    losses = run(case.model, FEW, (64, 64), "loss", training=True)
    assert losses and all(name.startswith("loss_") and value.ndim == 0 for name, value in losses.items())
    sum(losses.values()).backward()
    for name, parameter in case.model.named_parameters():
        assert parameter.requires_grad or parameter.grad is None, f"{name} is frozen but has a gradient"
    reached = {name for name, parameter in case.model.named_parameters() if parameter.grad is not None}
    trained = {name for name, parameter in case.model.named_parameters() if parameter.requires_grad}
    unused = {name for name in trained - reached if not name.startswith("backbone.")}
    assert reached and not unused, f"trainable without a gradient: {sorted(unused)}"
    # a head need not read all that a backbone offers, but something of one that is trained
    of_backbone = {name for name in trained if name.startswith("backbone.")}
    assert not of_backbone or of_backbone & reached
    case.model.zero_grad(set_to_none=True)


def test_state_dict_round_trip_keeps_the_outputs(case: Case, tmp_path):
    torch.save(case.model.state_dict(), tmp_path / "state.pth")
    other = build(case.config, seed=1)
    case.model.eval(), other.eval()
    with torch.no_grad():
        expected = class_logits(run(case.model, FEW, (64, 64), "tensor"))
        drawn = class_logits(run(other, FEW, (64, 64), "tensor"))
        assert drawn.shape != expected.shape or not torch.allclose(expected, drawn)
        other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
        loaded = class_logits(run(other, FEW, (64, 64), "tensor"))
    torch.testing.assert_close(expected, loaded, rtol=0, atol=0)


def test_every_head_is_exported():
    assert all(hasattr(openvocab.heads, name) for name in NAMES)
