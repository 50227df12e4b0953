"""Pictures of a few test videos' timelines while a network trains, for TensorBoard: the same videos every time.

snapshots = Snapshots(model, mask, data, options)
curves.add_images(snapshots(), step)                # {"timeline/VIDEO": PNG}
"""

import numpy as np

from dataset import Dataset
from localization.instances import Prediction, localize
from losses import AdaptiveMask
from model import SAL
from options import Options
from report.drawing import PicturesJob, draw_pictures, in_worker
from report.judged import judged_tiou
from report.recording import record

MOST_VIDEOS = 3


class Snapshots:
    """Called, it draws what the model says now. The model is left in evaluation mode, everything else as it is."""

    def __init__(self, model: SAL, mask: AdaptiveMask, data: Dataset, options: Options) -> None:
        self.model, self.mask, self.data, self.options = model, mask, data, options
        self.positions = chosen_videos(data)

    def __call__(self) -> dict[str, bytes]:
        """{name: PNG}. Raises InputError, or run.background.WorkerFailed."""
        timelines = record(self.model, self.data, self.options, mask=self.mask, positions=self.positions)
        predictions = []
        for i, v in enumerate(self.positions):
            video, sequences = self.data.test.videos[v], timelines.sequences[i]
            classes = np.flatnonzero(timelines.predicted[i])
            predictions.append(
                Prediction(
                    num_snippets=video.num_snippets,
                    fps=video.fps,
                    duration=video.duration,
                    class_scores=timelines.class_scores[i],
                    classes=classes,
                    sequences=sequences.of_proposals[np.searchsorted(sequences.classes, classes)],
                )
            )
        detections = localize(predictions, self.options.localization, grid=self.options.data.grid)
        tiou = judged_tiou(self.options)
        return in_worker(draw_pictures, PicturesJob(timelines=timelines, detections=detections, tiou=tiou))


def chosen_videos(data: Dataset) -> tuple[int, ...]:
    """Positions of at most MOST_VIDEOS test videos, the first, the last and between; those with instances, if there are any."""
    annotated = [v for v, name in enumerate(data.test.names) if data.annotations[name].instances]
    among = annotated or range(len(data.test))
    places = np.linspace(0, len(among) - 1, min(MOST_VIDEOS, len(among))).astype(int)
    return tuple(among[place] for place in places.tolist())
