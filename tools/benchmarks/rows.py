"""All rows, in the order of the table."""

from benchmarks import (
    average_precision,
    confusion,
    dense_features,
    groupvit,
    info_nce_loss,
    label_map,
    loader,
    lseg_inference,
    text_encoding,
    training_step,
)
from benchmarks.comparison import Row

ROWS: tuple[Row, ...] = (
    *dense_features.ROWS,
    *lseg_inference.ROWS,
    *groupvit.ROWS,
    *label_map.ROWS,
    *text_encoding.ROWS,
    *confusion.ROWS,
    *average_precision.ROWS,
    *loader.ROWS,
    *training_step.ROWS,
    *info_nce_loss.ROWS,
)
