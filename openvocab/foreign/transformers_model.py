"""A zero-shot model of transformers in the place of an `OpenVocabModel`."""

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from openvocab.argument_checks import argument_group, check_number, construct_group
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.detection.scored_boxes import DetectionChoice
from openvocab.foreign.clipseg import CLIPSegFamily
from openvocab.foreign.family import FamilySettings, ForeignFamily, ForeignParts
from openvocab.foreign.grounding_dino import GroundingDINOFamily
from openvocab.foreign.group_vit import GroupViTFamily
from openvocab.foreign.model_folder import model_folder, model_type
from openvocab.foreign.omdet_turbo import OmDetTurboFamily
from openvocab.foreign.owl import OWLFamily
from openvocab.heads.base import shared_vocabulary
from openvocab.registry import MODELS
from openvocab.structures import Prediction, Sample
from openvocab.text.templates import resolve_templates

logger = logging.getLogger(__name__)

OLDEST_TRANSFORMERS = 5
FAMILIES: tuple[type[ForeignFamily], ...] = (
    OWLFamily,
    GroundingDINOFamily,
    OmDetTurboFamily,
    CLIPSegFamily,
    GroupViTFamily,
)
"""Architectures that `TransformersModel` reads."""


@MODELS.register_module()
class TransformersModel(BaseModel):
    """OWL-ViT, OWLv2, Grounding DINO, MM-Grounding-DINO, LLMDet, OmDet-Turbo, CLIPSeg or GroupViT of transformers.

    It takes the vocabularies and data of this library and returns its predictions, so that tools, metrics and drawing
    work as with an `OpenVocabModel`. It predicts only. Images are resized and normalized by the model's own image
    processor, so that a test pipeline contains no `Resize`.

    Args:
        pretrained: a folder that transformers saved, or `hf-hub:OWNER/NAME`; see `model_folder`. Only data is read: no
            code of a repository is run, and weights are in the safetensors format.
        templates: see `resolve_templates`; a network that reads names and image together takes one sentence.
        names_at_once: names per pass through the part of the network that sees names and image together; default: that
            of the family.
        detections: arguments of `DetectionChoice`; default: what transformers does, without its score limit.
        options: further arguments of the family, such as `phrase_score` of `GroundingDINOFamily`.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError, PermissionError, ConnectionError: see `model_folder`.
        ValueError: an architecture that is not among these, weights that do not fit, or a wrong setting.
        TypeError: an unknown argument in `detections` or `options`.
    """

    family: ForeignFamily

    def __init__(
        self,
        pretrained: str | Path,
        templates: str | Sequence[str] = "none",
        names_at_once: int | None = None,
        detections: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(UnchangedImages())
        check_number("names_at_once", names_at_once, 1, whole=True, optional=True)
        self.templates = resolve_templates(templates)
        architecture = model_type(pretrained)
        kind = _family_of(architecture, str(pretrained))
        defaults = dataclasses.asdict(kind.detections)
        argument_group("detections", detections, DetectionChoice)
        settings = FamilySettings(
            self.templates,
            kind.names_at_once if names_at_once is None else names_at_once,
            DetectionChoice(**{**defaults, **(detections or {})}),
        )
        parts = _load(model_folder(pretrained), kind.architecture[architecture], str(pretrained))
        self.family = construct_group("options", options, kind, parts=parts, settings=settings)
        self.requires_grad_(False).eval()
        self.compute_dtype = torch.float32
        self._texts: dict[tuple[str, torch.device], Any] = {}
        self.register_load_state_dict_post_hook(lambda *_: self._texts.clear())
        logger.info(self.summary())

    def forward(self, images: Sequence[Tensor], samples: Sequence[Sample], mode: str = "predict") -> list[Prediction]:
        """Return one prediction per image in its original frame (mmengine's protocol).

        Args:
            images: B of (3, H_i, W_i) uint8 RGB.
            samples: B, with one vocabulary.
            mode: `predict`.

        Raises:
            ValueError: another mode.
        """
        if mode != "predict":
            raise ValueError(f"models of transformers only predict here; mode {mode!r} needs an OpenVocabModel")
        return self.predict(images, samples)

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor], samples: Sequence[Sample]) -> list[Prediction]:
        """Return one prediction per image in its original frame; see `forward`."""
        vocabulary = shared_vocabulary(samples)
        key = (vocabulary.digest, self.family.device)
        with torch.autocast(key[1].type, self.compute_dtype, enabled=self.compute_dtype != torch.float32):
            texts = self._texts.get(key)
            if texts is None:
                with torch.inference_mode(False), torch.no_grad():
                    texts = self.family.encode_texts(vocabulary)
                self._texts.clear()  # a run has one vocabulary; thousands of names may be large
                self._texts[key] = texts
            return [self.family.predict(image, sample, texts) for image, sample in zip(images, samples, strict=True)]

    def val_step(self, data: Any) -> list[Prediction]:
        """Predict a batch of the loader (mmengine's protocol)."""
        return self.test_step(data)

    def test_step(self, data: Any) -> list[Prediction]:
        """Predict a batch of the loader (mmengine's protocol)."""
        return self.predict(**self.data_preprocessor.pixels(data))

    def train(self, mode: bool = True) -> "TransformersModel":
        """Stay in evaluation mode: dropout would change predictions."""
        return super().train(False)

    def compute_in(self, dtype: torch.dtype) -> "TransformersModel":
        """Compute matrix products in `dtype` from now on, by autocast, since some operations need float32."""
        self.compute_dtype = dtype
        self._texts.clear()
        return self

    def embed_images(self, images: Any) -> NoReturn:
        """Raise `ValueError`: there is no common embedding of images."""
        raise ValueError(f"{type(self.family).__name__} has no embedding of whole images; use an OpenVocabModel")

    @property
    def text_encoder(self) -> NoReturn:
        """Raise `ValueError`: there is no common embedding of texts."""
        raise ValueError(f"{type(self.family).__name__} has no embedding of free texts; use an OpenVocabModel")

    @property
    def head(self) -> NoReturn:
        """Raise `ValueError`: it is not composed of backbone, text encoder and head."""
        raise ValueError(
            f"{type(self.family).__name__} is a whole network, without a head that forms groups or makes proposals; "
            "use an OpenVocabModel"
        )

    def summary(self) -> str:
        """Return the architecture with its parameter count, for the log."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return f"{type(self.family.network).__name__} of transformers, {total / 1e6:.2f} M parameters, none trained"


class UnchangedImages(BaseDataPreprocessor):
    """Pass images on as they are: the model's own image processor resizes and normalizes them."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return `{"images": [(3, H, W) uint8], "samples": [...]}`; see `pixels`."""
        return self.pixels(data)

    def pixels(self, data: dict) -> dict:
        """Return `{"image": [(3, H, W) uint8], "sample": [Sample]}` under the names of `TransformersModel.forward`."""
        return {"images": list(data["image"]), "samples": list(data["sample"])}


def _family_of(architecture: str, source: str) -> type[ForeignFamily]:
    """Return the family of a `model_type`."""
    for kind in FAMILIES:
        if architecture in kind.architecture:
            return kind
    known = ", ".join(name for kind in FAMILIES for name in kind.architecture)
    raise ValueError(f"{source}: model_type {architecture!r} in config.json is none of {known}")


def _load(folder: Path, architecture: str, source: str) -> ForeignParts:
    """Load network, tokenizer and image processor, without code from the folder.

    Raises:
        ImportError, FileNotFoundError, ValueError: see `TransformersModel`.
    """
    if find_spec("transformers") is None:
        raise ImportError(f"{source} is a model of transformers; pip install 'openvocab[hf]'")
    import transformers

    # 4 pads the images of OWLv2 with gray instead of black, and returns other outputs
    if int(transformers.__version__.partition(".")[0]) < OLDEST_TRANSFORMERS:
        raise ImportError(
            f"{source} needs transformers {OLDEST_TRANSFORMERS} or newer, got {transformers.__version__}; "
            "pip install 'openvocab[hf]'"
        )
    kind = getattr(transformers, architecture)
    only_data = dict(local_files_only=True, trust_remote_code=False)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **only_data)
        image_processor = transformers.AutoImageProcessor.from_pretrained(folder, **only_data)
    except (OSError, ValueError) as error:  # what transformers raises where a file is missing
        raise FileNotFoundError(
            f"{source} lacks files of its tokenizer or image processor ({' '.join(str(error).split())[:100]})"
        ) from error
    return ForeignParts(_network(kind, folder, source), tokenizer, image_processor)


def _network(kind: Any, folder: Path, source: str) -> nn.Module:
    """Build the network, with its weights unless a checkpoint follows, as float32."""
    if not reads_start_weights():
        return kind(kind.config_class.from_pretrained(folder, local_files_only=True)).float()
    network, report = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(filter(_is_needed(network), report["missing_keys"])):
        raise ValueError(f"{source}: the weights lack {len(missing)} entries of {kind.__name__}: {missing[0]}")
    return network.float()


def _is_needed(network: nn.Module) -> Callable[[str], bool]:
    """Return a function that says whether weights of this name have to be in the file."""
    # buffers are computed, and only some versions save them
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    # a network that contains another one does not pass on what that one declares as unused
    unused = [
        pattern
        for part in network.modules()
        for pattern in getattr(part, "_keys_to_ignore_on_load_missing", None) or ()
    ]
    return lambda name: name in parameters and not any(re.search(pattern, name) for pattern in unused)
