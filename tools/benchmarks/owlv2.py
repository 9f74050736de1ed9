"""20 names in a photo: OWLv2 as a head of ours against the pipeline of transformers with equal weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import relative_error
from openvocab.converters.owlv2 import convert
from openvocab.datasets.transforms import Resize
from openvocab.heads.owl import OWLHead
from openvocab.inference.square_image import SquareImage
from openvocab.model import OpenVocabModel
from openvocab.predictor import Predictor
from openvocab.structures import DetectionPrediction
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

MODEL, SIDE = "OWLv2-ViT-B-16", 960
NUM_NAMES = 20
NAMES_PER_CALL = 2
"""Of the peer, whose work is one pass over the image per name."""
MIN_SCORE = 0.1
"""The pipeline's default."""


def prepare(device: str = "cpu") -> Sides:
    """Compare the whole way from a photo to the objects; the network runs 20 times in the peer, and once in ours.

    The error is that of the logits for equal pixels.
    """
    torch.manual_seed(0)
    names = [synonyms[0] for synonyms in read_class_names(class_names_path("coco_80"))[:NUM_NAMES]]
    peer_model: Any = random_peer()
    peer_model.to(device)
    model = our_model(peer_model.state_dict()).to(device)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    detect = peer_pipeline(peer_model, device)
    predictor, vocabulary = Predictor(model, [Resize(long_side=SIDE)]), Vocabulary.from_names(names)

    def peer() -> list[dict[str, Any]]:
        return detect(Image.fromarray(image), names[:NAMES_PER_CALL])

    def ours() -> DetectionPrediction:
        prediction = predictor(image, vocabulary)
        assert isinstance(prediction, DetectionPrediction)
        return prediction

    def error(expected: Any, got: Any) -> float:
        return logits_error(peer_model, model, vocabulary, device)

    return Sides(peer, ours, error, peer_scale=NUM_NAMES / NAMES_PER_CALL)


def random_peer() -> transformers.Owlv2ForObjectDetection:
    """Build OWLv2 in the size of google/owlv2-base-patch16-ensemble with random weights, whose scores are small."""
    config = transformers.Owlv2Config(vision_config=dict(image_size=SIDE))
    model = transformers.Owlv2ForObjectDetection(config).eval()
    with torch.no_grad():
        model.class_head.logit_scale.weight.zero_()
        model.class_head.logit_shift.weight.zero_()
        model.class_head.logit_shift.bias.fill_(-3.0)  # scores of about 0.05, as almost everywhere in a photo
    return model


def our_model(peer_state: dict[str, Tensor]) -> OpenVocabModel:
    """Build the network from our parts, with the peer's weights."""
    detections = dict(one_class_per_box=False, min_score=MIN_SCORE)
    model = OpenVocabModel(
        dict(type="CLIPBackbone", model=MODEL),
        dict(type="CLIPTextEncoder", model=MODEL, templates="none"),
        dict(type=OWLHead, detections=detections),
        SquareImage(),
    )
    model.load_state_dict(convert(peer_state))
    return model.compute_in(torch.float32)


def peer_pipeline(model: transformers.Owlv2ForObjectDetection, device: str) -> Callable[..., list[dict[str, Any]]]:
    """Return the zero-shot object detection pipeline of transformers, with CLIP's vocabulary from open_clip."""
    byte_pairs = SimpleTokenizer()
    vocabulary = dict(byte_pairs.encoder)
    for theirs, ours in (("<|startoftext|>", "<start_of_text>"), ("<|endoftext|>", "<end_of_text>")):
        vocabulary[theirs] = vocabulary.pop(ours)
    tokenizer = transformers.CLIPTokenizer(vocab=vocabulary, merges=list(byte_pairs.bpe_ranks), pad_token="!")
    processor = transformers.Owlv2ImageProcessor(size=dict(height=SIDE, width=SIDE))
    work = transformers.pipeline(
        "zero-shot-object-detection", model=model, tokenizer=tokenizer, image_processor=processor, device=device
    )

    def detect(image: Image.Image, names: list[str]) -> list[dict[str, Any]]:
        return work(image, candidate_labels=names, threshold=MIN_SCORE)

    return detect


@torch.inference_mode()
def logits_error(
    peer: transformers.Owlv2ForObjectDetection, model: OpenVocabModel, vocabulary: Vocabulary, device: str
) -> float:
    """Return the relative error of our logits (1, K, N) for equal pixels and texts."""
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    tokens = SimpleTokenizer()(list(vocabulary.class_names), context_length=16).to(device)
    expected = peer(input_ids=tokens, pixel_values=pixels).logits.transpose(1, 2)
    return relative_error(expected, model.head(model.encode(pixels), model.encode_texts(vocabulary)).logits)


ROWS = (
    Row(
        "owlv2_20_names",
        0.1,
        prepare,
        products="float32",
        repeats=3,
        note="from a photo to the objects; transformers' pipeline passes the image once per name (two of 20 timed)",
        on_cuda=True,
    ),
)
