"""All rows, in the order of the table."""

from benchmarks import (
    average_precision,
    class_wise_nms,
    confusion,
    dense_features,
    glip,
    groupvit,
    info_nce_loss,
    label_map,
    loader,
    lseg_inference,
    mask_encoding,
    mask_rcnn,
    owlv2,
    region_cache,
    second_vocabulary,
    start_up,
    text_encoding,
    training_step,
)
from benchmarks.comparison import Row

ROWS: tuple[Row, ...] = (
    *dense_features.ROWS,
    *lseg_inference.ROWS,
    *groupvit.ROWS,
    *second_vocabulary.ROWS,
    *start_up.ROWS,
    *mask_rcnn.ROWS,
    *owlv2.ROWS,
    *glip.ROWS,
    *label_map.ROWS,
    *text_encoding.ROWS,
    *confusion.ROWS,
    *average_precision.ROWS,
    *class_wise_nms.ROWS,
    *mask_encoding.ROWS,
    *loader.ROWS,
    *region_cache.ROWS,
    *training_step.ROWS,
    *info_nce_loss.ROWS,
)
