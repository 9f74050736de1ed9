"""LSeg's head against Hugging Face's DPT, against a literal reading of the paper's order, and its own promises."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from random_batch_norms import randomise_batch_norms
from torch import Tensor, nn

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.dpt import upsample
from openvocab.heads.lseg import LSegHead
from openvocab.heads.spatial_block import SpatialBlock
from openvocab.ops.upsampled_cosine import upsampled_cosine
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

WIDTH, TEXT_DIM, LAYERS = 24, 16, (1, 2, 3, 4)
SPEC = BackboneSpec(None, 16, (WIDTH,) * 5, (16,) * 5)
VOCABULARY = Vocabulary.from_names(["cat", "sofa", "floor", "lamp", "other"])


def make_text(count: int = 5, seed: int = 0) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    return TextFeatures(F.normalize(torch.randn(count, TEXT_DIM, generator=generator), dim=1), torch.tensor(100.0))


def make_features(grid=(4, 6), batch: int = 2, seed: int = 1) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    size = tuple(16 * side for side in grid)
    hidden = {i: torch.randn(batch, WIDTH, *grid, generator=generator) for i in LAYERS}
    prefix = {i: torch.randn(batch, 1, WIDTH, generator=generator) for i in LAYERS}
    return ImageFeatures(size, hidden=hidden, prefix=prefix)


def make_head(**arguments) -> LSegHead:
    torch.manual_seed(2)
    decoder = dict(dims=(8, 12, 16, 16), features=20) | arguments.pop("decoder", {})
    head = LSegHead(SPEC, TEXT_DIM, LAYERS, decoder, **arguments)
    randomise_batch_norms(head)
    return head.eval()


def make_samples(labels: Tensor) -> list[Sample]:
    size = tuple(labels.shape[-2:])
    return [Sample(f"image{i}", VOCABULARY, size, size, size, label_map) for i, label_map in enumerate(labels)]


# --- parity with Hugging Face -----------------------------------------------------------------------------------------


def hugging_face_dpt(dims, features, factors):
    transformers = pytest.importorskip("transformers")
    config = transformers.DPTConfig(
        hidden_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=192,
        layer_norm_eps=1e-6,
        image_size=384,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        readout_type="project",
        reassemble_factors=list(factors),
        neck_hidden_sizes=list(dims),
        fusion_hidden_size=features,
        use_batch_norm_in_fusion_residual=True,
        use_auxiliary_head=False,
    )
    torch.manual_seed(3)
    model = transformers.DPTForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for parameter in (model.dpt.embeddings.cls_token, model.dpt.embeddings.position_embeddings):
            parameter.normal_(std=0.5)
    randomise_batch_norms(model)
    return model


def backbone_from_hugging_face(dpt: nn.Module) -> TimmBackbone:
    backbone = TimmBackbone("vit_tiny_patch16_384", model_args=dict(embed_dim=48, depth=4, num_heads=2)).eval()
    source = dpt.state_dict()
    state = {
        "cls_token": source["embeddings.cls_token"],
        "pos_embed": source["embeddings.position_embeddings"],
        "patch_embed.proj.weight": source["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": source["embeddings.patch_embeddings.projection.bias"],
    }
    inner = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    layers = "encoder.layer" if "encoder.layer.0.output.dense.bias" in source else "layers"
    for i in range(4):
        for field in ("weight", "bias"):
            old = f"{layers}.{i}"
            for ours, theirs in inner.items():
                state[f"blocks.{i}.{ours}.{field}"] = source[f"{old}.{theirs}.{field}"]
            parts = [source[f"{old}.attention.attention.{name}.{field}"] for name in ("query", "key", "value")]
            state[f"blocks.{i}.attn.qkv.{field}"] = torch.cat(parts)
    backbone.visual.load_state_dict(state)
    return backbone


def load_neck(head: LSegHead, neck: nn.Module) -> None:
    source = neck.state_dict()
    state = {}
    for level in range(4):
        ours, theirs = f"reassemble.{level}", "reassemble_stage"
        for field in ("weight", "bias"):
            state[f"{ours}.readout.{field}"] = source[f"{theirs}.readout_projects.{level}.0.{field}"]
            state[f"{ours}.project.{field}"] = source[f"{theirs}.layers.{level}.projection.{field}"]
            resize = f"{theirs}.layers.{level}.resize.{field}"
            if resize in source:
                state[f"{ours}.resize.{field}"] = source[resize]
        state[f"decoder.inputs.{level}.weight"] = source[f"convs.{level}.weight"]
        load_fusion(state, source, level)
    state |= {key: value for key, value in head.state_dict().items() if key.startswith("embed.")}
    head.load_state_dict(state)


def load_fusion(state: dict, source: dict, level: int) -> None:
    theirs, ours = f"fusion_stage.layers.{3 - level}", f"decoder.fusions.{level}"
    units = {"unit": "residual_layer2"} | ({"skip_unit": "residual_layer1"} if level < 3 else {})
    for field in ("weight", "bias"):
        state[f"{ours}.out.{field}"] = source[f"{theirs}.projection.{field}"]
    for unit, their_unit in units.items():
        for n in (1, 2):
            state[f"{ours}.{unit}.conv{n}.weight"] = source[f"{theirs}.{their_unit}.convolution{n}.weight"]
            for field in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                state[f"{ours}.{unit}.norm{n}.{field}"] = source[f"{theirs}.{their_unit}.batch_norm{n}.{field}"]


@pytest.mark.parametrize("size", [(384, 384), (96, 160), (112, 80)])
def test_encoder_and_decoder_equal_hugging_face_dpt(size):
    """The last size has odd grids at level 4, which the official code refuses and Hugging Face resizes."""
    dims, features, factors = (16, 24, 32, 32), 20, (4, 2, 1, 0.5)
    model = hugging_face_dpt(dims, features, factors)
    backbone = backbone_from_hugging_face(model.dpt)
    head = LSegHead(backbone.spec, TEXT_DIM, LAYERS, dict(factors=factors, dims=dims, features=features)).eval()
    load_neck(head, model.neck)
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        reads = backbone(images, LAYERS)
        ours = upsample(head.decoder(head.levels(reads)))
        hidden = model.dpt(images, output_hidden_states=True).hidden_states[1:]
        theirs = model.neck(list(hidden), size[0] // 16, size[1] // 16)[-1]
    assert theirs.std() > 0.01
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


# --- logits -----------------------------------------------------------------------------------------------------------


def plain_pixels(head: LSegHead, features: ImageFeatures) -> Tensor:
    """The paper's order: upsample, out-convolution, project, normalize."""
    last = head.decoder.fusions[0]
    captured = []
    out, last.out = last.out, nn.Identity()
    try:
        captured.append(head.decoder(head.levels(features)))
    finally:
        last.out = out
    embed = head.embed(out(upsample(captured[0])))
    return embed / embed.norm(dim=1, keepdim=True)


def test_logits_equal_the_reference_product_in_the_plain_order():
    head, features, text = make_head(), make_features(), make_text()
    pixels = plain_pixels(head, features)
    reference = torch.einsum("bdhw,kd->bkhw", pixels, text.embed) / 0.07
    torch.testing.assert_close(head(features, text), reference, atol=1e-5, rtol=1e-5)


def test_half_product_multiplies_scaled_half_pixels_with_half_texts():
    head, features, text = make_head(half_product=True), make_features(), make_text()
    pixels = plain_pixels(head, features).permute(0, 2, 3, 1)  # (B, H, W, D)
    reference = (torch.tensor(1 / 0.07) * pixels.half()) @ text.embed.half().T
    logits = head(features, text)
    assert logits.dtype == torch.float32
    assert (logits - reference.float().permute(0, 3, 1, 2)).abs().max() <= 2**-6  # one unit in the last place at 14


def test_competing_synonyms_are_merged_after_upsampling():
    head, features, text = make_head(), make_features(), make_text()
    merged = TextFeatures(text.embed, text.logit_scale, row_class=torch.tensor([0, 0, 1, 2, 2]))
    rows = head(features, text)
    reference = torch.stack([rows[:, :2].amax(1), rows[:, 2], rows[:, 3:].amax(1)], dim=1)
    torch.testing.assert_close(head(features, merged), reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 3)])
def test_cosine_of_upsampled_embeddings_and_its_gradient_equal_the_plain_order(grid):
    torch.manual_seed(0)
    embed = torch.randn(2, TEXT_DIM, *grid, requires_grad=True)
    rows, weights = make_text().embed, torch.randn(2, 5, 2 * grid[0], 2 * grid[1])
    plain = F.conv2d(F.normalize(upsample(embed), dim=1), rows[:, :, None, None])
    ours = upsampled_cosine(embed, rows)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((value * weights).sum(), embed)[0] for value in (ours, plain)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


def test_zero_embeddings_give_finite_logits_and_gradients():
    embed = torch.zeros(1, TEXT_DIM, 3, 3, requires_grad=True)
    logits = upsampled_cosine(embed, make_text().embed)
    logits.sum().backward()
    assert torch.equal(logits, torch.zeros_like(logits))
    assert embed.grad.isfinite().all()


@pytest.mark.parametrize("block", [None, "bottleneck", "depthwise"])
def test_permuting_the_classes_permutes_the_logits(block):
    head, features, text = make_head(spatial_block=dict(kind=block, depth=2)), make_features(), make_text()
    order = [3, 1, 4, 0, 2]
    permuted = head(features, TextFeatures(text.embed[order], text.logit_scale))
    torch.testing.assert_close(permuted, head(features, text)[:, order], atol=1e-5, rtol=1e-5)


def test_one_head_serves_vocabularies_of_any_length():
    head = make_head()
    for count in (1, 5, 40):
        assert head(make_features(), make_text(count)).shape == (2, count, 32, 48)


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (7, 4)])
def test_odd_grids_are_served_and_predicted_in_the_original_frame(grid):
    head, features = make_head(), make_features(grid)
    size = features.input_size
    samples = make_samples(torch.zeros(2, *size, dtype=torch.uint8))
    predictions = head.postprocess(head(features, make_text()).detach(), samples)
    assert all(isinstance(prediction, SemanticPrediction) for prediction in predictions)
    assert all(prediction.label_map.shape == size for prediction in predictions)


def test_label_map_is_the_argmax_of_the_logits_upsampled_with_aligned_corners():
    head, features = make_head(), make_features((4, 6))
    size = features.input_size
    logits = head(features, make_text()).detach()
    full = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
    labels = torch.from_numpy(head.postprocess(logits, make_samples(torch.zeros(2, *size)))[1].label_map.astype(int))
    second, best = full[1].topk(2, dim=0).values.flip(0)
    clear = best - second > 1e-4
    assert clear.float().mean() > 0.9
    assert torch.equal(labels[clear], full[1].argmax(0)[clear])


def test_a_penalty_of_seen_classes_lets_unseen_ones_win_and_needs_flags():
    logits = torch.tensor([2.0, 1.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    names = ["cat", "dog", "cow"]
    for penalty, unseen, expected in ((0.0, ["dog"], 0), (0.4, ["dog"], 0), (0.6, ["dog"], 1), (9.0, None, 0)):
        sample = Sample("0", Vocabulary.from_names(names, unseen=unseen), (4, 4), (4, 4), padded_size=(4, 4))
        (prediction,) = make_head(seen_penalty=penalty).postprocess(logits, [sample])
        assert (prediction.label_map == expected).all()


def test_patch_32_factors_and_a_pyramid_reach_half_the_image_size():
    torch.manual_seed(0)
    tokens = BackboneSpec(None, 32, (WIDTH,) * 5, (32,) * 5)
    head = LSegHead(tokens, TEXT_DIM, LAYERS, dict(factors=(8, 4, 2, 1), dims=(8, 8, 8, 8), features=16))
    assert head(make_features((2, 3)), make_text()).shape == (2, 5, 32, 48)
    pyramid = BackboneSpec(None, 32, (4, 8, 12, 16, 20), (2, 4, 8, 16, 32))
    head = LSegHead(pyramid, TEXT_DIM, LAYERS, dict(factors=None, features=16))
    hidden = {i: torch.randn(2, pyramid.hidden_dims[i], 64 // 2 ** (i + 1), 96 // 2 ** (i + 1)) for i in LAYERS}
    assert head(ImageFeatures((64, 96), hidden=hidden), make_text()).shape == (2, 5, 32, 48)


# --- spatial block ----------------------------------------------------------------------------------------------------

ACTIVATIONS = {"lrelu": nn.LeakyReLU(), "tanh": nn.Tanh(), "relu": nn.ReLU()}


@pytest.mark.parametrize("activation", ["lrelu", "tanh", "relu"])
@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("kind", ["bottleneck", "depthwise"])
def test_spatial_block_equals_a_literal_loop_over_the_classes(kind, depth, activation):
    torch.manual_seed(0)
    block = SpatialBlock(kind, depth, activation)
    logits = torch.randn(2, 5, 6, 7)

    def once(maps: Tensor) -> Tensor:
        smooth = torch.cat([block.conv(maps[:, k : k + 1]) for k in range(maps.shape[1])], dim=1)
        return smooth + maps.max(dim=1, keepdim=True)[0] if kind == "bottleneck" else smooth

    expected = logits
    for _ in range(depth - 1):
        expected = ACTIVATIONS[activation](once(expected))
    torch.testing.assert_close(block(logits), once(expected))


@pytest.mark.parametrize("kind", ["bottleneck", "depthwise"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_head_in_half_precision_smooths_float32_logits(kind, dtype):
    head, text = make_head(spatial_block=dict(kind=kind, depth=2)), make_text()
    features, half = make_features(), make_features()
    half.hidden = {layer: level.to(dtype) for layer, level in half.hidden.items()}
    half.prefix = {layer: tokens.to(dtype) for layer, tokens in half.prefix.items()}
    with torch.no_grad():
        expected = head(features, text)
        head.to(dtype)
        logits, (image, _) = head(half, text), head.logit_maps(half, text)
        in_parts = image.whole()
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()
    torch.testing.assert_close(in_parts, logits[0], rtol=0.02, atol=0.02 * float(logits.abs().max()))


# --- loss -------------------------------------------------------------------------------------------------------------


def test_full_size_loss_is_the_cross_entropy_of_the_official_upsampling():
    head, features, text = make_head(), make_features(), make_text()
    labels = torch.randint(0, 5, (2, *features.input_size), dtype=torch.uint8)
    labels[:, :9] = 255
    full = F.interpolate(head(features, text), size=features.input_size, mode="bilinear", align_corners=True)
    expected = F.cross_entropy(full, labels.long(), ignore_index=255)
    torch.testing.assert_close(head.loss(features, text, make_samples(labels))["loss_pixel"], expected)


def test_head_size_loss_reads_the_label_under_each_logit():
    head, features, text = make_head(loss_size="head"), make_features(), make_text()
    labels = torch.randint(0, 5, (2, *features.input_size), dtype=torch.uint8)
    rows = [round(i * 63 / 31) for i in range(32)]
    columns = [round(i * 95 / 47) for i in range(48)]
    expected = F.cross_entropy(head(features, text), labels[:, rows][:, :, columns].long())
    torch.testing.assert_close(head.loss(features, text, make_samples(labels))["loss_pixel"], expected)


def test_sampled_losses_average_to_the_loss_at_full_size():
    features, text = make_features(), make_text()
    samples = make_samples(torch.randint(0, 5, (2, *features.input_size), dtype=torch.uint8))
    full = make_head().loss(features, text, samples)["loss_pixel"]
    head = make_head(loss_size="sampled")
    losses = {head.loss(features, text, samples)["loss_pixel"].item() for _ in range(200)}
    assert len(losses) == 4  # a logit for each two by two pixels
    assert sum(losses) / 4 == pytest.approx(full.item(), rel=1e-5)


@pytest.mark.parametrize("learn_scale", [False, True])
def test_scale_is_a_constant_outside_the_state_dict_unless_learned(learn_scale):
    head, features, text = make_head(learn_scale=learn_scale).train(), make_features(), make_text()
    torch.testing.assert_close(head.logit_scale, torch.tensor(1 / 0.07))
    assert any("scale" in name for name in head.state_dict()) == learn_scale
    for _ in range(2):  # the official code cannot go backward twice through its scale
        labels = torch.randint(0, 5, (2, *features.input_size))
        head.loss(features, text, make_samples(labels))["loss_pixel"].backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_gradient_reaches_the_text_only_if_it_asks_for_one():
    head, features, text = make_head(), make_features(), make_text()
    samples = make_samples(torch.randint(0, 5, (2, *features.input_size)))
    head.loss(features, text, samples)["loss_pixel"].backward()
    assert text.embed.grad is None
    text.embed.requires_grad_()
    head.loss(features, text, samples)["loss_pixel"].backward()
    assert text.embed.grad.abs().sum() > 0


def test_loss_under_bfloat16_autocast_is_float32_and_close():
    head, features, text = make_head(), make_features(), make_text()
    samples = make_samples(torch.randint(0, 5, (2, *features.input_size)))
    exact = head.loss(features, text, samples)["loss_pixel"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = head.loss(features, text, samples)["loss_pixel"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0.0)


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_named():
    cases = [
        (dict(layers=(1, 9)), "0 to 4"),
        (dict(layers=()), "0 to 4"),
        (dict(layers=(1, 2, 3)), "one entry per level, got 3, 4 and 4"),
        (dict(layers=LAYERS, decoder=dict(dims=(8, 8))), r"decoder.factors and decoder.dims .* got 4 and 2"),
        (dict(layers=LAYERS, decoder=dict(factors=(4, 2, 1, 0.25))), "0.25"),
        (dict(layers=LAYERS, decoder=dict(readout="add")), "readout"),
        (dict(layers=LAYERS, loss_size="half"), "loss_size"),
        (dict(layers=LAYERS, spatial_block=dict(kind="dense")), "spatial_block.kind"),
        (dict(layers=LAYERS, spatial_block=dict(kind="depthwise", activation="gelu")), "activation"),
    ]
    for arguments, message in cases:
        decoder = dict(dims=(8, 8, 8, 8), features=8) | arguments.pop("decoder", {})
        with pytest.raises(ValueError, match=message):
            LSegHead(SPEC, TEXT_DIM, decoder=decoder, **arguments)


def test_a_missing_class_token_is_named():
    features = make_features()
    features.prefix = {}
    with pytest.raises(ValueError, match="readout='ignore'"):
        make_head()(features, make_text())
    assert make_head(decoder=dict(readout="ignore"))(features, make_text()).shape == (2, 5, 32, 48)


def test_a_label_outside_the_vocabulary_is_named_with_its_sample():
    head, features = make_head(), make_features()
    labels = torch.zeros(2, *features.input_size, dtype=torch.uint8)
    labels[1, 3, 4] = 77
    with pytest.raises(ValueError, match="'image1' has label 77.*5 classes"):
        head.loss(features, make_text(), make_samples(labels))
    samples = make_samples(labels)
    samples[0].label_map = None
    with pytest.raises(ValueError, match="'image0' has no label map"):
        head.loss(features, make_text(), samples)


# --- batches whose samples have classes of their own ------------------------------------------------------------------


def episode_samples(labels: Tensor, *names: str) -> list[Sample]:
    vocabularies = [Vocabulary.from_names(["others", name], background="others") for name in names]
    samples = make_samples(labels)
    return [replace(sample, vocabulary=vocabulary) for sample, vocabulary in zip(samples, vocabularies)]


@pytest.mark.parametrize("block", [None, "bottleneck"])
@pytest.mark.parametrize("loss_size", ["full", "head"])
def test_each_image_of_a_batch_is_classified_among_its_own_classes(block, loss_size):
    head, features = make_head(spatial_block=dict(kind=block), loss_size=loss_size), make_features(batch=4)
    labels = torch.randint(0, 2, (4, 64, 96), generator=torch.Generator().manual_seed(5))
    samples = episode_samples(labels, "cat", "dog", "cat", "cow")
    joined = head.training_texts(samples)
    assert joined.class_names == ("others", "cat", "dog", "cow")
    text = make_text(4)
    losses = []
    for index, own in enumerate([(0, 1), (0, 2), (0, 1), (0, 3)]):  # of equally many pixels: the batch is their mean
        alone = replace(text, embed=text.embed[list(own)])
        logits = head(one_image(features, index), alone)
        if loss_size == "full":
            logits = F.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=True)
            losses.append(F.cross_entropy(logits, labels[index : index + 1]))
        else:
            losses.append(head.loss(one_image(features, index), alone, samples[index : index + 1])["loss_pixel"])
    torch.testing.assert_close(head.loss(features, text, samples)["loss_pixel"], torch.stack(losses).mean())


def test_one_vocabulary_of_all_is_passed_on_as_it_is():
    samples = make_samples(torch.zeros(2, 64, 96, dtype=torch.long))
    assert make_head().training_texts(samples) is VOCABULARY


def test_vocabularies_of_several_lengths_or_none_are_refused():
    samples = make_samples(torch.zeros(2, 64, 96, dtype=torch.long))
    short = replace(samples[1], vocabulary=Vocabulary.from_names(["others", "cat"]))
    with pytest.raises(ValueError, match="different vocabularies, of 2 to 5 classes; put them into separate batches"):
        make_head().training_texts([samples[0], short])
    with pytest.raises(ValueError, match="'image1' has no vocabulary"):
        make_head().training_texts([samples[0], replace(samples[1], vocabulary=None)])


def one_image(features: ImageFeatures, index: int) -> ImageFeatures:
    maps, tokens = (
        {layer: value[index : index + 1] for layer, value in part.items()}
        for part in (features.hidden, features.prefix)
    )
    return replace(features, hidden=maps, prefix=tokens)
