"""Training task after task: the loop, its steps, what it measures and what it keeps."""

from lava_meta.training.evaluation import evaluate
from lava_meta.training.loop import TrainResult, train
from lava_meta.training.metrics import AccuracyMatrix
from lava_meta.training.settings import TrainSettings

__all__ = ["AccuracyMatrix", "TrainResult", "TrainSettings", "evaluate", "train"]
