"""Settings of every run: logging, saving, seed. Training is counted in iterations only."""

from mmengine.hooks import DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook, RuntimeInfoHook
from mmengine.visualization import LocalVisBackend, Visualizer

from openvocab.engine.hooks.bad_sample_hook import BadSampleHook
from openvocab.engine.hooks.checkpoint_hook import CheckpointHook
from openvocab.engine.hooks.report_hook import ReportHook
from openvocab.engine.log_processor import UnitLogProcessor

default_scope = "openvocab"
default_hooks = dict(
    runtime_info=dict(type=RuntimeInfoHook),
    timer=dict(type=IterTimerHook),
    sampler_seed=dict(type=DistSamplerSeedHook),
    logger=dict(type=LoggerHook, interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, interval=1000, max_keep=2, best="mIoU"),
    bad_samples=dict(type=BadSampleHook),
    report=dict(type=ReportHook),
)
# patience=5 ends a training after five validations without a better score (EarlyStoppingHook); empty: never
early_stopping = dict()
log_processor = dict(type=UnitLogProcessor, by_epoch=False, window_size=50)
# scalars as JSON lines; the README lists the lines that add TensorBoard, W&B or MLflow
visualizer = dict(type=Visualizer, vis_backends=[dict(type=LocalVisBackend)])
randomness = dict(seed=0)
# of float32 matrix products; "auto" uses torch's "medium" if a probe shows that it rounds like float32
precision = "auto"
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    # seconds before a collective operation times out: a rank that waits for a lost one ends with an error
    dist_cfg=dict(backend="nccl", timeout=1800),
)
log_level = "INFO"
val_cfg = dict()
test_cfg = dict()
