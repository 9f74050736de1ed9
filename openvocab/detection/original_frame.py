"""From the frame of the network's input to that of the image on disk."""

from torch import Tensor

from openvocab.structures import Sample


def original_boxes(boxes: Tensor, sample: Sample) -> Tensor:
    """Scale boxes (N, 4) of the input frame of a sample to its original frame, and clip them to it."""
    (height, width), (input_height, input_width) = sample.original_size, sample.input_size
    scale = boxes.new_tensor([width / input_width, height / input_height] * 2)
    return (boxes * scale).clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
