import copy
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bfloat16_figures import FAST, SLOW, pretend
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from openvocab import Predictor, Vocabulary, load
from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.datasets.transforms import Resize
from openvocab.images.image_input import rgb_image
from openvocab.registry import MODELS

NAMES = ["cat", "dog", "other"]


@pytest.fixture(scope="module")
def config():
    whole = Config.fromfile(str(REPOSITORY / "configs" / "lseg_shapes.py"))
    return Config(dict(model=without_weights(whole.model)))


@pytest.fixture(scope="module")
def predictor(config):
    return load(config, device="cpu")


@pytest.fixture(scope="module")
def weights(config):
    return MODELS.build(config.model).state_dict()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def containers(image, folder):
    path = folder / "image.png"
    Image.fromarray(image).save(path)
    tensor = torch.from_numpy(image)
    read_only = image.copy()
    read_only.flags.writeable = False
    return {
        "path": str(path),
        "Path": path,
        "PIL": Image.fromarray(image),
        "opened file": Image.open(path),
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "memoryview": memoryview(path.read_bytes()),
        "BytesIO": io.BytesIO(path.read_bytes()),
        "open file": open(path, "rb"),
        "os.PathLike": next(os.scandir(folder)),
        "array": image,
        "every second column of twice as many": np.repeat(image, 2, axis=1)[:, ::2],
        "upside down twice": image[::-1].copy()[::-1],
        "big-endian": image.astype(">u2") * 257,
        "float16 in 0..255": image.astype(np.float16),
        "read-only": read_only,
        "not contiguous": np.asfortranarray(image),
        "reversed": image[:, ::-1][:, ::-1],
        "RGBA": np.dstack([image, np.full(image.shape[:2], 7, np.uint8)]),
        "PIL RGBA": Image.fromarray(np.dstack([image, np.full(image.shape[:2], 7, np.uint8)])),
        "int64": image.astype(np.int64),
        "uint16": image.astype(np.uint16) * 257,
        "float in 0..1": image / 255,
        "float32 in 0..1": (image / 255).astype(np.float32),
        "float in 0..255": image.astype(np.float64),
        "tensor HWC": tensor,
        "tensor CHW": tensor.permute(2, 0, 1),
        "tensor float": tensor.permute(2, 0, 1) / 255,
        "tensor with gradient": (tensor / 255).requires_grad_(),
        "tensor channels_last": tensor.permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)[0],
        "tensor flipped": tensor.flip(1).flip(1),
        "PIL palette of alpha": Image.fromarray(np.dstack([image, np.full(image.shape[:2], 7, np.uint8)]), "RGBA"),
    }


def test_equal_pixels_in_any_container_are_equal_images(image, tmp_path):
    for name, container in containers(image, tmp_path).items():
        converted = rgb_image(container)
        assert converted.dtype == np.uint8 and converted.flags.c_contiguous and converted.flags.writeable, name
        assert np.array_equal(converted, image), name


def test_gray_in_any_container_is_three_equal_channels(image, tmp_path):
    gray = image[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    expected = np.repeat(gray[..., None], 3, axis=2)
    tensor = torch.from_numpy(gray.copy())
    deep = Image.open(tmp_path / "deep.png")
    for container in (gray, gray[..., None], Image.fromarray(gray), tmp_path / "gray.png", tensor, tensor[None], deep):
        assert np.array_equal(rgb_image(container), expected)
    assert np.array_equal(rgb_image(gray > 99), np.where(expected > 99, 255, 0))


@pytest.mark.parametrize("brightest", [65535, 200])
def test_16_bit_gray_in_any_container_is_its_high_byte(image, tmp_path, brightest):
    gray = (image[..., 0].astype(np.uint32) * brightest // 255).astype(np.uint16)
    size, big_endian = gray.shape[::-1], gray.astype(">u2")
    (tmp_path / "gray.pgm").write_bytes(b"P5 %d %d 65535\n" % size + big_endian.tobytes())
    Image.fromarray(gray).save(tmp_path / "gray.png")
    pgm = Image.open(tmp_path / "gray.pgm")
    assert pgm.mode == "I"  # Pillow widens 16 bits to 32
    containers = [gray, big_endian, torch.from_numpy(gray), Image.fromarray(gray), pgm]
    containers += [Image.frombytes("I;16B", size, big_endian.tobytes()), Image.open(tmp_path / "gray.png")]
    containers += [tmp_path / "gray.pgm", tmp_path / "gray.png"]
    for container in containers:
        assert np.array_equal(rgb_image(container)[..., 1], gray >> 8), container


def test_32_bit_gray_is_like_other_integers(image):
    gray = image[..., 0].astype(np.int32)
    assert np.array_equal(rgb_image(Image.fromarray(gray))[..., 1], gray)
    with pytest.raises(ValueError, match="16-bit images are uint16"):
        rgb_image(Image.fromarray(gray * 257))


GRADIENT = np.stack(np.broadcast_arrays(*np.ogrid[:240:10, :240:6], 99), -1).astype(np.uint8)  # (24, 40, 3)
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def text_of_png(key, text):
    chunks = PngInfo()
    chunks.add_itxt(key, text)
    return chunks


def saved(path, **options):
    """Save a picture, and return how far apart its file and its PIL image are, and what the file gives."""
    Image.fromarray(GRADIENT).save(path, **options)
    from_file, from_pil = rgb_image(path), rgb_image(Image.open(path))
    assert from_file.shape == from_pil.shape
    return np.abs(from_file.astype(int) - from_pil).max(), from_file


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_orientation_of_photos_is_applied_alike(tmp_path, kind, orientation):
    lossless = {"lossless": True} if kind == "webp" else {}
    difference, image = saved(tmp_path / f"x.{kind}", exif=exif_of(orientation), **lossless)
    assert difference <= (4 if kind == "jpg" else 0)  # decoders of JPEG round differently
    upright = GRADIENT.transpose(1, 0, 2) if orientation >= 5 else GRADIENT
    flipped_rows, flipped_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    expected = upright[:: -1 if flipped_rows else 1, :: -1 if flipped_columns else 1]
    assert np.abs(image.astype(int) - expected).max() <= (40 if kind == "jpg" else 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.jpg", {"exif": b"Exif\0\0garbage!", "dpi": (72, 72)}),  # with a resolution, opening looks at no EXIF
        ("x.jpg", {"exif": b"Exif\0\0"}),
        ("x.jpg", {"exif": exif_of(9)}),
        ("x.jpg", {"exif": exif_of(6).tobytes()[:20]}),
        ("x.jpg", {"xmp": XMP.encode()}),
        ("x.jpg", {"xmp": XMP.encode(), "exif": exif_of(1)}),
        ("x.png", {"pnginfo": text_of_png("XML:com.adobe.xmp", XMP)}),
        ("x.png", {"exif": b"garbage!"}),
        ("x.webp", {"xmp": XMP.encode(), "lossless": True}),
        ("x.webp", {"exif": b"garbage!", "lossless": True}),
        ("x.tif", {"tiffinfo": {700: XMP.encode()}}),
    ],
)
def test_only_an_orientation_in_exif_that_can_be_read_turns_a_photo(tmp_path, name, options):
    difference, image = saved(tmp_path / name, **options)
    assert image.shape == GRADIENT.shape and difference <= (4 if name == "x.jpg" else 0)


def test_the_xmp_of_a_photo_stays(tmp_path):
    Image.fromarray(GRADIENT).save(tmp_path / "x.tif", tiffinfo={700: XMP.encode()})
    photo = Image.open(tmp_path / "x.tif")
    rgb_image(photo)
    assert photo.info["xmp"] == XMP.encode() and photo.size == GRADIENT.shape[1::-1]


@pytest.mark.parametrize(
    "image, error, message",
    [
        (np.zeros((3, 40, 56), np.uint8), ValueError, "transpose"),
        (np.zeros((2, 40, 56, 3), np.uint8), ValueError, "predict_batch"),
        (np.zeros((40, 56, 2), np.uint8), ValueError, r"\(40, 56, 2\)"),
        (np.zeros((0, 56, 3), np.uint8), ValueError, "empty"),
        (np.full((4, 4, 3), np.nan), ValueError, "NaN"),
        (np.array([[0.0, np.nan], [1.0, np.inf]]), ValueError, "NaN"),
        (torch.full((3, 4, 4), torch.inf), ValueError, "NaN or infinity"),
        (np.full((4, 4, 3), -0.5), ValueError, "Undo the normalization"),
        (np.full((4, 4, 3), 300), ValueError, "300"),
        (np.full((4, 4, 3), 1.25), ValueError, "neither"),
        (np.full((4, 4, 3), "a"), ValueError, "uint8 or float"),
        ([[0, 1], [2, 3]], TypeError, "list.*predict_batch"),
        ((np.zeros((4, 4, 3), np.uint8),) * 2, TypeError, "tuple.*predict_batch"),
        ({"img": 1}, TypeError, "dict"),
        (b"", ValueError, "empty"),
        (b"no image at all", ValueError, "not an image"),
        (io.StringIO("text"), TypeError, "binary mode"),
        ("s3://bucket/photo.jpg", ValueError, "only http and https are fetched"),
        (Path("ftp://example.org/photo.jpg"), ValueError, "only http and https are fetched"),
        (str(REPOSITORY), ValueError, "is a folder"),
        ("photos/*.jpg", ValueError, "patterns are not expanded"),
        ("", ValueError, "No such file"),
        (Image.new("RGB", (0, 5)), ValueError, "empty: 5x0"),
        (np.zeros((4, 0, 3), np.uint8), ValueError, "empty"),
        (np.zeros(5, np.uint8), ValueError, r"\(5,\)"),
        (np.zeros((4, 4, 3), complex), ValueError, "complex"),
        (np.array([[None]]), ValueError, "object"),
        (torch.zeros(3, 4, 4, device="meta"), ValueError, "meta"),
        (torch.full((3, 4, 4), -1), ValueError, "-1"),
        (np.full((4, 4, 3), np.nan, np.float16), ValueError, "NaN"),
        (None, TypeError, "NoneType"),
        ("no/such/photo.jpg", ValueError, "no/such/photo.jpg"),
    ],
)
def test_images_that_cannot_be_used_say_why(image, error, message):
    with pytest.raises(error, match=message):
        rgb_image(image)


def test_prediction_has_the_size_of_the_image_and_the_names_asked_for(predictor, image):
    prediction = predictor(image, "cat, dog, other")
    assert prediction.label_map.shape == (40, 56) and prediction.class_names == tuple(NAMES)
    assert set(np.unique(prediction.label_map)) <= {0, 1, 2}


def test_all_ways_to_give_names_agree(predictor, image):
    expected = predictor(image, NAMES).label_map
    for classes in ("cat, dog ,other", tuple(NAMES), [["cat"], ["dog"], ["other"]], Vocabulary.from_names(NAMES)):
        assert np.array_equal(predictor(image, classes).label_map, expected)
    assert predictor(image, "cat | kitten, dog").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "classes, error, message",
    [
        ("", ValueError, "class 0"),
        ([], ValueError, "empty list"),
        ("cat, , dog", ValueError, "class 1"),
        (["cat", "  "], ValueError, "class 1"),
        (["cat", "dog", "cat"], ValueError, "class 0 and class 2"),
        (["cat", "dog", "CAT "], ValueError, "case and white space.*class 0 and class 2"),
        ("cat | Cat", ValueError, "given twice"),
        (["cat", "two\nlines"], ValueError, "class 1.*control"),
        (["cat", "\x1b[31mred"], ValueError, "class 1.*control"),
        (["cat", "\u200b\u200f"], ValueError, "class 1.*empty"),
        (["cat", ""], ValueError, "class 1"),
        ({"cat", "dog"}, TypeError, "set"),
        ((name for name in NAMES), TypeError, "generator"),
        (["cat", "do\x07g"], ValueError, "class 1.*control"),
        (["cat", 3], (ValueError, TypeError), "int|iterable"),
        ({"cat": 1}, TypeError, "dict"),
        (None, TypeError, "NoneType"),
    ],
)
def test_bad_names_say_which(predictor, image, classes, error, message):
    with pytest.raises(error, match=message):
        predictor(image, classes)


@pytest.mark.parametrize(
    "name", ["😀", "👩‍👩‍👧", "خلفية", "\u202eabc", "کتاب\u200cخانه", "猫", "Cat", " cat ", "very " * 500 + "long"]
)
def test_unusual_names_work(predictor, image, name):
    assert predictor(image, ["dog", name]).label_map.shape == (40, 56)


def test_one_class_and_one_pixel_work(predictor, image):
    assert (predictor(image, "cat").label_map == 0).all()
    assert predictor(image[:1, :1], NAMES).label_map.shape == (1, 1)


def test_a_prediction_does_not_depend_on_the_batch(predictor, image):
    images = [image, image[:20], image[::-1], image[:, :31]]
    batch = predictor.predict_batch(images, NAMES, batch_size=2)
    for single, prediction in zip(images, batch, strict=True):
        assert np.array_equal(predictor(single, NAMES).label_map, prediction.label_map)
    assert predictor.predict_batch([], NAMES) == []


@pytest.mark.parametrize(
    "bad, error, message",
    [
        ("no/such/photo.jpg", ValueError, r"no/such/photo.jpg: No such file or directory \(image 2\)"),
        (np.full((4, 4, 3), np.nan), ValueError, "image 2: the image contains NaN"),
        (None, TypeError, "image 2: .*NoneType"),
    ],
)
def test_one_bad_image_of_many_is_named_by_its_number(predictor, image, bad, error, message):
    with pytest.raises(error, match=message):
        predictor.predict_batch([image, image, bad, image], NAMES)


def test_a_generator_of_images_is_never_held_as_a_whole(predictor, image):
    """Sixty sizes: no two of them make a batch."""
    given, predicted, most = 0, 0, 0

    def photos():
        nonlocal given, most
        for width in range(8, 68):
            most = max(most, given - predicted)
            given += 1
            yield np.resize(image, (16, width, 3))

    def count(*_):
        nonlocal predicted
        predicted += 1

    handle = predictor.model.backbone.register_forward_hook(count)
    predictions = predictor.predict_batch(photos(), NAMES, batch_size=2)
    handle.remove()
    assert [prediction.label_map.shape[1] for prediction in predictions] == list(range(8, 68))
    assert most <= 8


def test_a_path_is_no_list_of_images(predictor):
    with pytest.raises(TypeError, match="put it in a list"):
        predictor.predict_batch("photo.jpg", NAMES)


def test_the_test_pipeline_resizes(predictor, image):
    enlarged = Predictor(predictor.model, [Resize(short_side=80)])
    sizes = []
    handle = predictor.model.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-2:]))
    assert enlarged(image, NAMES).label_map.shape == (40, 56)
    handle.remove()
    assert sizes == [(80, 112)]


@pytest.mark.parametrize("part", ["backbone", "text_encoder"])
def test_a_checkpoint_replaces_every_weight_so_that_none_it_started_from_is_needed(
    config, weights, image, tmp_path, part
):
    save_checkpoint({"state_dict": weights}, tmp_path / "model.pth")
    started_elsewhere = copy.deepcopy(config)
    started_elsewhere.model[part].pretrained = "a/file/that/is/not/here.pth"
    with pytest.raises(FileNotFoundError, match="a/file/that/is/not/here.pth"):
        load(started_elsewhere, device="cpu")
    restored = load(started_elsewhere, tmp_path / "model.pth", device="cpu")
    model = MODELS.build(config.model)
    model.load_state_dict(weights)
    assert np.array_equal(restored(image, NAMES).label_map, Predictor(model)(image, NAMES).label_map)


def test_checkpoint_of_another_model_is_refused_with_the_differences(config, weights, tmp_path):
    state = dict(weights)
    first, second = list(state)[:2]
    state["surplus"] = state.pop(first)
    state[second] = state[second].new_zeros(3, 1, 4)
    save_checkpoint({"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(ValueError) as caught:
        load(config, tmp_path / "other.pth", device="cpu")
    missing, unexpected, shapes = str(caught.value).splitlines()[1:]
    assert missing == f"1 missing: {first}" and unexpected == "1 unexpected: surplus"
    assert shapes.startswith(f"1 of another shape: {second}: model ") and shapes.endswith("file (3, 1, 4)")


def test_missing_files_are_named(config):
    with pytest.raises(FileNotFoundError, match="nowhere.py"):
        load("nowhere.py")
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        load(config, "nowhere.pth")


def test_import_stays_light():
    code = "import sys, openvocab; openvocab.Vocabulary; assert not {'torch', 'mmengine'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_of_the_package_are_attribute_errors():
    import openvocab

    with pytest.raises(AttributeError, match="nothing"):
        openvocab.nothing  # noqa: B018


def test_bfloat16_labels_as_float32_does_but_for_close_calls(config, image):
    torch.manual_seed(0)
    exact = load(config, device="cpu")
    torch.manual_seed(0)
    half = load(config, device="cpu", dtype=torch.bfloat16)
    assert next(half.model.backbone.parameters()).dtype == next(half.model.head.parameters()).dtype == torch.bfloat16
    assert {p.dtype for p in half.model.text_encoder.parameters()} == {torch.float32}
    agree = exact(image, NAMES).label_map == half(image, NAMES).label_map
    assert agree.mean() > 0.95


@pytest.mark.parametrize(("gain", "dtype"), [(FAST, torch.bfloat16), (SLOW, torch.float32)])
def test_auto_predicts_in_what_is_faster_on_the_device(monkeypatch, config, gain, dtype):
    pretend(monkeypatch, gain)
    model = load(config, device="cpu", dtype="auto").model
    assert {p.dtype for part in (model.backbone, model.head) for p in part.parameters()} == {dtype}


def test_another_word_for_the_dtype_is_refused(config):
    with pytest.raises(ValueError, match="dtype: expected 'auto' or a torch.dtype such as torch.bfloat16, got 'bf16'"):
        load(config, device="cpu", dtype="bf16")
