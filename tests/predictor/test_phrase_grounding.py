"""Phrases of a caption found in images, as a user asks for them."""

import json

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from grounding_models import TINY_HEAD, save_tiny_glip
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from tiny_bert import CONFIG, tokenizer_folder

from openvocab import Predictor, load
from openvocab.config.config import read_config
from openvocab.datasets.grounding import GroundingDataset
from openvocab.datasets.transforms import Resize
from openvocab.results import DetectionResult, GroundingResult
from openvocab.structures import Sample
from openvocab.text.caption_prompt import caption_prompt
from openvocab.vocabulary.prompt import Prompt

CAPTION = "a red circle is next to a blue star"
PHRASES = ("a red circle", "a blue star")
TWICE = "a dog, a cat and a dog"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return load(save_tiny_glip(tmp_path_factory.mktemp("glip") / "best.pth"), device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (72, 56, 3), dtype=np.uint8)


def same(result, other):
    return all(torch.equal(getattr(result, name), getattr(other, name)) for name in ("boxes", "scores", "classes"))


def test_the_noun_phrases_of_a_caption_are_found(predictor, image):
    result = predictor.ground(image, CAPTION)
    assert isinstance(result, GroundingResult) and result.caption == CAPTION
    assert result.phrases == result.names == PHRASES
    assert {*result.classes.tolist()} == {0, 1} and (result.scores.diff() <= 0).all()
    assert (result.boxes >= 0).all() and (result.boxes[:, 2:] <= torch.tensor([56, 72])).all()
    assert repr(result).startswith(f"GroundingResult(72x56, {len(result)} objects: ")
    for index in (0, 1):
        of_phrase = result.of_phrase(index)
        assert (of_phrase.classes == index).all() and of_phrase.object_names == [PHRASES[index]] * len(of_phrase)
        assert isinstance(of_phrase, GroundingResult) and of_phrase.caption == CAPTION


def test_boxes_are_those_of_the_head_in_the_frame_of_the_image(predictor, image):
    enlarging = Predictor(predictor.model, [Resize(short_side=112)])
    result = enlarging.ground(image, CAPTION)
    model, prompt = predictor.model, caption_prompt(CAPTION)
    pixels, sample = enlarging.prepare(image)
    assert pixels.shape == (3, 144, 112)
    batch = model.data_preprocessor.pixels({"image": [pixels], "sample": [sample]})
    with torch.no_grad():
        outputs = model.head(model.encode(batch["images"].whole()), model.encode_texts([prompt]))
        sizes = ((72, 56), (144, 112))
        own, enlarged = (
            model.head.postprocess(outputs, [Sample("", prompt.vocabulary, size, (144, 112))])[0] for size in sizes
        )
    assert len(own.boxes) > 10 and same(result, own)
    # half a pixel: officially, the edges of boxes are the centers of pixels
    torch.testing.assert_close(result.boxes, enlarged.boxes / 2, rtol=0, atol=0.51)


def test_phrases_may_be_texts_ranges_or_several_ranges(predictor, image):
    given = predictor.ground(image, CAPTION, ["Red  circle", (24, 35), [(2, 5), (31, 35)]])
    assert given.phrases == ("red circle", "a blue star", "red star")
    assert same(given, predictor.ground(image, CAPTION, [(2, 12), "a blue star", [[2, 5], [31, 35]]]))
    assert not same(given, predictor.ground(image, CAPTION))


def test_a_prompt_is_a_caption_for_many_images(predictor, image):
    prompt = predictor.prompt(CAPTION)
    assert same(predictor.ground(image, prompt), predictor.ground(image, CAPTION))
    # of a vocabulary: two names of one class are two phrases here
    synonyms = predictor.ground(image, Prompt("disc. circle", (((0, 4),), ((6, 12),)), (0, 0)))
    assert synonyms.phrases == ("disc", "circle") and {*synonyms.classes.tolist()} == {0, 1}
    with pytest.raises(ValueError, match="phrases: the prompt has its own"):
        predictor.ground(image, prompt, ["red"])


def test_two_equal_phrases_stay_apart(predictor, image):
    result = predictor.ground(image, TWICE)
    assert result.phrases == ("a dog", "a cat", "a dog")
    first, second = result.of_phrase(0), result.of_phrase(2)
    assert len(first) and len(second) and len(result.filter(names="A dog")) == len(first) + len(second)
    assert [row["phrase"] for row in result.objects()] == result.classes.tolist()
    assert {(row["name"], row["phrase"]): row["count"] for row in result.table()} == {
        ("a dog", 0): len(first), ("a cat", 1): len(result.of_phrase(1)), ("a dog", 2): len(second),
    }  # fmt: skip
    colors = [np.unique(result.of_phrase(index).draw(min_score=0).reshape(-1, 3), axis=0) for index in (0, 2)]
    assert not np.array_equal(*colors)


def test_an_image_alone_in_a_list_in_a_folder_and_encoded_gives_the_same(predictor, image, tmp_path):
    small = np.ascontiguousarray(image[:40])
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(small).save(tmp_path / "b.png")
    alone = [predictor.ground(one, CAPTION) for one in (image, small)]
    assert not same(*alone)
    for results in (
        predictor.ground([image, small], CAPTION),
        predictor.ground(iter([Image.fromarray(image), tmp_path / "b.png"]), CAPTION),
        predictor.ground(tmp_path, CAPTION),
        [predictor.encode(one).ground(CAPTION) for one in (image, small)],
    ):
        assert len(results) == 2 and all(map(same, results, alone))
        assert all(np.array_equal(result.image, one) for result, one in zip(results, (image, small)))
    assert predictor.ground([], CAPTION) == []


def test_an_encoded_image_answers_captions_and_names_in_any_order(predictor, image):
    encoded = predictor.encode(image)
    results = [
        encoded.ground(CAPTION),
        encoded("red circle, blue star"),
        encoded.ground(TWICE),
        encoded.ground(CAPTION),
    ]
    assert same(results[0], results[3]) and same(results[2], predictor.ground(image, TWICE))
    assert type(results[1]) is DetectionResult and same(results[1], predictor(image, "red circle, blue star"))


def test_a_least_score_leaves_objects_out(predictor, image):
    result = predictor.ground(image, CAPTION)
    least = result.scores[3].item()
    for filtered in (
        predictor.ground(image, CAPTION, min_score=least),
        predictor.ground([image], CAPTION, min_score=least)[0],
        predictor.encode(image).ground(CAPTION, min_score=least),
    ):
        assert same(filtered, result[:4]) and isinstance(filtered, GroundingResult)
    assert len(predictor.ground(image, CAPTION, min_score=1)) == 0
    with pytest.raises(ValueError, match="min_score: expected a number from 0 to 1, got 2"):
        predictor.ground(image, CAPTION, min_score=2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("",), "caption: expected a sentence, got ''"),
        ((" \u200b",), "caption: expected a sentence"),
        ((None,), "caption: expected a sentence, got None"),
        (("over and under",), "no noun was found in the caption 'over and under'; give the phrases themselves"),
        ((CAPTION, []), "phrases: expected at least one"),
        ((CAPTION, "red circle"), "phrases: expected a list, got one string"),
        ((CAPTION, ["a dog"]), "phrases: 'a dog' does not occur in the caption"),
        ((CAPTION, [(30, 36)]), "characters 30 to 36 are not inside the text of 35 characters"),
        ((CAPTION, [(-4, 3)]), "characters -4 to 3 are not inside"),
        ((CAPTION, [(5, 5)]), "characters 5 to 5 are not inside"),
        ((CAPTION, [(1, 2)]), "characters 1 to 2 of .* are blank"),
        ((CAPTION, [(3, 5)]), "the phrase 'ed', characters 3 to 5 of .* begins or ends inside the word 'red'"),
        ((CAPTION, ["ed circle"]), "the phrase 'ed circle', .* begins or ends inside the word"),
        ((CAPTION, [4]), "phrases: expected a text of the caption"),
        (("a dog and a cat, " * 300,), r"'a cat', is not within the 75 tokens that the text encoder reads .* shorten"),
        (("x" * 5000, ["x" * 5000]), "is not within the 75 tokens that the text encoder reads of a prompt"),
        (("a d\x00g",), "caption: 'a d.x00g' contains a control character"),
    ],
)
def test_a_caption_that_cannot_be_grounded_is_one_line(predictor, image, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        predictor.ground(image, *arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_mistakes_in_the_caption_come_before_any_image_is_read(predictor):
    with pytest.raises(ValueError, match="no noun was found"):
        predictor.ground(["missing.jpg"], "over and under")
    with pytest.raises(ValueError, match=r"missing\.jpg: No such file or directory \(image 0\)"):
        predictor.ground(["missing.jpg"], CAPTION)


def test_a_model_that_does_not_read_phrases_names_what_to_use(image):
    model = without_weights(read_config(REPOSITORY / "configs" / "dense_clip_shapes.py").model.to_dict())
    dense = load(Config(dict(model=model)), device="cpu")
    message = r'DenseCLIPHead does not ground captions: give names instead, predictor\(image, "cat, sofa"\)'
    for ask in (dense.encode(image).ground, lambda caption: dense.ground(image, caption), dense.prompt):
        with pytest.raises(ValueError, match=message):
            ask(CAPTION)
    with pytest.raises(ValueError, match="Linear does not ground captions"):
        Predictor(torch.nn.Linear(1, 1)).ground(image, CAPTION)


def test_every_format_holds_the_phrases(predictor, image, tmp_path):
    result = predictor.ground(image, TWICE, min_score=0.3)
    result.sample_id = "photo.png"
    value = json.loads(json.dumps(result.to_json()))
    assert value["task"] == "grounding" and value["caption"] == TWICE
    assert value["phrases"] == [[[0, 5]], [[7, 12]], [[17, 22]]] and value["names"] == ["a dog", "a cat", "a dog"]
    assert [row["phrase"] for row in value["objects"]] == result.classes.tolist()
    for name in ("overlay", "coco", "yolo", "voc", "json", "csv", "npz", "geojson"):
        assert result.save(tmp_path / f"result_of_{name}", name).stat().st_size
    index = COCO(str(tmp_path / "result_of_coco"))
    assert len(index.anns) == len(result) and index.imgs[1]["caption"] == TWICE


def test_a_coco_document_is_read_as_grounding_data(predictor, image, tmp_path):
    result = predictor.ground(image, TWICE)
    Image.fromarray(image).save(tmp_path / "photo.png")
    result.sample_id = "photo.png"
    result.save(tmp_path / "found.json", "coco")
    sample = GroundingDataset(".", "found.json", root=tmp_path, test_mode=True)[0]["sample"]
    assert sample.prompt.text == TWICE and {*sample.prompt.phrases} == {*result.prompt.phrases}
    assert len(sample.instances.boxes) == len(result)


def test_pictures_have_the_caption_below(predictor, image):
    result = predictor.ground(image, CAPTION)
    alone, whole = result.draw(legend=False, min_score=0), result.draw(min_score=0)
    assert whole.shape[1] == alone.shape[1] and len(whole) > len(alone) + 20
    assert np.array_equal(whole[: len(alone)], alone)


@pytest.mark.parametrize("names", ["red circle, blue star", ["red circle", ["blue star", "azure star", "navy star"]]])
def test_the_same_model_takes_names(predictor, image, names):
    result = predictor(image, names)
    assert type(result) is DetectionResult and {*result.classes.tolist()} == {0, 1}
    neighbors = predictor([image, image[::-1].copy()], names)
    torch.testing.assert_close(neighbors[0].scores, result.scores)


def test_a_thousand_names_are_divided_into_prompts(predictor, image):
    names = [f"{color} thing number {number}" for color in ("red", "blue") for number in range(500)]
    result = predictor(image, names)
    prompts = predictor.model._prompts(predictor.vocabulary(names).vocabulary)
    assert len(prompts) > 50 and [owner for prompt in prompts for owner in prompt.owners] == [*range(1000)]
    assert len(result) > 10 * len(prompts) and result.classes.max() > 950 and result.classes.min() < 50


def test_names_that_clean_to_one_phrase_stay_apart(predictor, image):
    result = predictor(image, ["circle (large)", "circle (small)"])
    large, small = (result.filter(names=f"circle ({size})") for size in ("large", "small"))
    assert len(large) and len(small)


@pytest.mark.parametrize(
    "names, message",
    [
        (["circle", "Circle"], "'Circle' is given twice"),
        (["circle", "a (b)", "\u200b(red)"], r"class 2: nothing is left of the name"),
        (["circle", "__"], "class 1: the name is empty"),
        (
            ["circle", "long name " * 100],
            "class 1: its names have 20[01] tokens together, and the network reads at most",
        ),
        ([], "at least one class name"),
    ],
)
def test_names_that_no_prompt_can_hold_are_one_line(predictor, image, names, message):
    with pytest.raises(ValueError, match=message):
        predictor(image, names)


def test_phrases_are_found_with_the_words_of_bert(image, tmp_path):
    tiny = dict(type="BERTTextEncoder", config=CONFIG, tokenizer=str(tokenizer_folder(tmp_path)), max_tokens=64)
    model = without_weights(read_config(REPOSITORY / "configs" / "glip_shapes.py").model.to_dict())
    model["text_encoder"] = tiny
    model["head"] |= TINY_HEAD | dict(detections=dict(min_score=0))
    torch.manual_seed(0)
    glip = load(Config(dict(model=model)), device="cpu")
    result = glip.ground(image, "a woman in a red coat walks two small dogs")
    assert result.phrases == ("a woman", "a red coat", "two small dogs") and {*result.classes.tolist()} == {0, 1, 2}
    with pytest.raises(ValueError, match="'a dog', is not within the 62 tokens"):
        glip.ground(image, "the " * 100 + "a dog", ["a dog"])
    hebrew = glip.ground(image, "שלום כלב", ["כלב"])
    assert hebrew.phrases == ("כלב",) and len(hebrew) and hebrew.draw(min_score=0).shape[2] == 3
