"""Official GLIP-T as a model: Swin-T, BERT-base, and the tower of six blocks in which they read each other.

Everything is trained, as in pretraining; images are padded to multiples of 32 with zeros after normalization. All weights
come from a checkpoint: only BERT's tokenizer is fetched from the hub, of which a folder will do, too: `--cfg-options
model.text_encoder.tokenizer=DIR`. Configs of pretraining add weights to start from.
"""

from openvocab.backbones.swin import SwinBackbone
from openvocab.heads.glip import GLIPHead
from openvocab.model import OpenVocabModel
from openvocab.text.bert import BERTTextEncoder

bert = "hf-hub:google-bert/bert-base-uncased"
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=SwinBackbone, trainable="all"),
    text_encoder=dict(type=BERTTextEncoder, tokenizer=bert, trainable="all"),
    head=dict(
        type=GLIPHead,
        pyramid=dict(layers=(2, 3, 4), extra_levels=2, extra="retinanet"),  # strides 8 to 128
        tower=dict(num_blocks=6, checkpointing=True),
        detections=dict(max_detections=100),
    ),
    padding="mean",
)
