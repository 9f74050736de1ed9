"""Every fast path against the plain one it stands for: rounding apart, the same numbers and the same labels.

The plain path is open_clip's own forward, PyTorch's own operators in the plain order, or the same model without the
short cut. Float32: relative error and share of other labels at most 1e-5. Bfloat16 rounds; its share of other labels is
recorded with the test's result.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from random_batch_norms import randomise_batch_norms

from openvocab import load
from openvocab.backbones.clip import CLIPBackbone
from openvocab.clip.open_clip_model import create_clip
from openvocab.config.config import read_config
from openvocab.engine.precision import use_fast_matmul
from openvocab.inference import SlidingWindow
from openvocab.logit_map import TensorLogits
from openvocab.postprocess import label_map_from_logits
from openvocab.predictor import Predictor
from openvocab.registry import MODELS
from openvocab.structures import TextFeatures
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

LIMIT = 1e-5
NAMES = [
    f"a {colour} {form}" for colour in ("red", "green", "blue", "grey") for form in ("disc", "box", "ring", "star")
]
TINY = "ViT-Ti-8-shapes"


def error(fast, plain):
    return float((fast.double() - plain.double()).norm() / plain.double().norm())


def disagreement(fast, plain):
    return float((np.asarray(fast) != np.asarray(plain)).mean())


def assert_same(fast, plain):
    assert error(fast, plain) <= LIMIT


def photo(height, width, seed=0):
    """A smooth random picture: labels have areas, as those of photos have."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)[0]
    return (smooth * 255).byte().permute(1, 2, 0).numpy()


def make_model(name, seed=0):
    torch.manual_seed(seed)
    model = MODELS.build(without_weights(read_config(REPOSITORY / "configs" / f"{name}.py").model.to_dict()))
    randomise_batch_norms(model)
    return model.eval()


@pytest.fixture(scope="module", params=["lseg_shapes", "dense_clip_shapes", "groupvit_shapes"])
def dense(request):
    """A dense model without any preparation, and its label map of a photo at the plainest."""
    model = make_model(request.param)
    torch.set_float32_matmul_precision("highest")
    return model, Predictor(copy.deepcopy(model))(photo(320, 480), NAMES).label_map


@torch.no_grad()
def logits_of(model, images):
    return model.head(model.encode(images), model.text_encoder(Vocabulary.from_names(NAMES)))


def test_the_chosen_matrix_product_is_float32s():
    torch.manual_seed(0)
    inputs, weight = torch.randn(700, 768), torch.randn(2304, 768)
    use_fast_matmul("auto")
    assert_same(F.linear(inputs, weight), inputs.double() @ weight.double().T)


def test_labels_with_the_chosen_matrix_product(dense):
    model, plain = dense
    use_fast_matmul("auto")
    differing = disagreement(Predictor(copy.deepcopy(model))(photo(320, 480), NAMES).label_map, plain)
    assert differing * plain.size <= 3  # of 153,600: a random network has ties that rounding decides


@pytest.mark.parametrize("model", [TINY, "ViT-B-32-quickgelu", "RN50"])
def test_image_tower_and_its_attention_are_open_clips(model):
    torch.manual_seed(0)
    backbone = CLIPBackbone(model)
    randomise_batch_norms(backbone.visual)
    size = backbone.visual.image_size
    images = torch.randn(2, 3, *((size, size) if isinstance(size, int) else size))
    with torch.inference_mode():
        plain = backbone.visual(images)
        backbone.fold_batch_norms()
        assert_same(backbone(images).image_embed, plain)


@pytest.mark.parametrize("model", [TINY, "ViT-B-32-quickgelu"])
def test_texts_cut_to_their_length_are_open_clips_at_full_length(model):
    torch.manual_seed(0)
    clip = create_clip(model).eval()
    encoder = CLIPTextEncoder(model, templates=["{}", "a photo of a {}."])
    encoder.text.load_state_dict(clip.text.state_dict())
    encoder.train(False)
    names = ["cat", "a traffic light by night", "猫", "very " * 20 + "long", *NAMES]
    tokens, _ = encoder._tokenizer([template.format(name) for name in names for template in ("{}", "a photo of a {}.")])
    with torch.inference_mode():
        full = torch.zeros(len(tokens), encoder.text.context_length, dtype=tokens.dtype)
        full[:, : tokens.shape[1]] = tokens
        output = clip.text(full)
        prompts = F.normalize(output[0] if isinstance(output, tuple) else output, dim=-1)
        plain = F.normalize(prompts.unflatten(0, (len(names), 2)).mean(1), dim=-1)
        assert_same(encoder(Vocabulary.from_names(names)).embed, plain)


@pytest.mark.parametrize("num_classes, grid", [(16, (60, 90)), (300, (20, 30)), (1203, (12, 16))])
@pytest.mark.parametrize("align_corners", [False, True])
def test_the_pruned_label_map_is_that_of_upsampling_everything(num_classes, grid, align_corners):
    generator = torch.Generator().manual_seed(num_classes)
    coarse = torch.randn(1, num_classes, 4, 5, generator=generator)
    logits = F.interpolate(coarse, size=grid, mode="bicubic")
    size = (360, 540)
    plain = F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)[0].argmax(0)
    assert disagreement(label_map_from_logits(logits[0], size, align_corners=align_corners), plain) <= LIMIT
    parts = label_map_from_logits(TensorLogits(logits[0]), size, align_corners=align_corners)
    assert disagreement(parts, plain) <= LIMIT


def test_lsegs_cosine_before_upsampling_is_the_one_after():
    model = make_model("lseg_shapes")
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        text = model.text_encoder(Vocabulary.from_names(NAMES))
        embed = model.head.embed(model.head.decoder(model.head.levels(model.encode(images))))
        size = tuple(2 * length for length in embed.shape[-2:])
        pixels = F.normalize(F.interpolate(embed, size=size, mode="bilinear", align_corners=True), dim=1)
        plain = model.head.logit_scale * torch.einsum("bdhw,kd->bkhw", pixels, text.embed)
        assert_same(model.head(model.encode(images), text), plain)
        (maps, _) = model.head.logit_maps(model.encode(images), text)
        assert_same(maps.whole(), plain[0])


def test_channels_last_is_contiguous(dense):
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    plain = logits_of(dense[0], images.contiguous())
    assert_same(logits_of(dense[0], images.contiguous(memory_format=torch.channels_last)), plain)


def test_folded_batch_norms_are_batch_norms(dense):
    model, plain = dense
    folded = copy.deepcopy(model).compute_in(torch.float32)
    assert disagreement(Predictor(folded)(photo(320, 480), NAMES).label_map, plain) <= LIMIT


def test_a_batch_is_its_images(dense):
    model, plain = dense
    images = [photo(320, 480), photo(320, 480, seed=1)]
    batch = Predictor(copy.deepcopy(model)).predict_batch(images, NAMES)
    assert disagreement(batch[0].label_map, plain) <= LIMIT


def test_logits_in_parts_are_the_logits(dense):
    model, plain = dense
    parts = copy.deepcopy(model)
    parts.head.rows_at_once.shrink_to(5)
    assert disagreement(Predictor(parts)(photo(320, 480), NAMES).label_map, plain) <= LIMIT


def test_windows_row_by_row_are_windows(dense):
    tiled, rows = copy.deepcopy(dense[0]), copy.deepcopy(dense[0])
    tiled.inference, rows.inference = SlidingWindow(128, 96), SlidingWindow(128, 96)
    rows.inference.rows_at_once.shrink_to(1)
    plain = Predictor(tiled)(photo(320, 480), NAMES).label_map
    assert disagreement(Predictor(rows)(photo(320, 480), NAMES).label_map, plain) <= LIMIT


def test_class_by_class_is_all_at_once(dense):
    model, plain = dense
    some = copy.deepcopy(model)
    some.head.rows_at_once.shrink_to(1000)
    some.head.classes_at_once.shrink_to(3)
    assert disagreement(Predictor(some)(photo(320, 480), NAMES).label_map, plain) <= LIMIT


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_a_part_of_a_classifier_gives_its_part_of_the_cosines(merge):
    torch.manual_seed(0)
    rows = F.normalize(torch.randn(7, 8), dim=1)
    row_class = torch.tensor([0, 0, 1, 2, 2, 2, 3]) if merge == "max" else None
    text = TextFeatures(rows, torch.tensor(1.0), row_class)
    embed = F.normalize(torch.randn(5, 8), dim=1)
    assert_same(text.part(slice(1, 3)).similarity(embed), text.similarity(embed)[:, 1:3])


def test_bfloat16_labels_most_pixels_as_float32_does(dense, record_property):
    model, plain = dense
    half = Predictor(copy.deepcopy(model).compute_in(torch.bfloat16))
    share = disagreement(half(photo(320, 480), NAMES).label_map, plain)
    record_property("share of labels that bfloat16 changes", share)
    assert share < 0.15


def test_load_and_the_bare_model_agree(dense):
    config = without_weights(read_config(REPOSITORY / "configs" / "lseg_shapes.py").model.to_dict())
    torch.manual_seed(0)
    plain = Predictor(MODELS.build(copy.deepcopy(config)).eval())
    torch.manual_seed(0)
    fast = load(Config(dict(model=config)), device="cpu")
    image = photo(320, 480)
    assert disagreement(fast(image, NAMES).label_map, plain(image, NAMES).label_map) <= LIMIT
