"""Training task after task: the loop, its steps, what it measures and what it keeps."""

from lava_meta.training.callbacks import Callback
from lava_meta.training.evaluation import evaluate
from lava_meta.training.held_out import BestCheckpoint, EarlyStopping
from lava_meta.training.loop import TrainResult, train
from lava_meta.training.metrics import AccuracyMatrix
from lava_meta.training.settings import TrainSettings

__all__ = [
    "AccuracyMatrix",
    "BestCheckpoint",
    "Callback",
    "EarlyStopping",
    "TrainResult",
    "TrainSettings",
    "evaluate",
    "train",
]
