"""What dropping cells without a middle brings: the same outputs made into cells with and without a lowest peak.

    python benchmarks/doubtful_cells.py                      # models as they are, and twenty painted cells, 60 s

Nuclei of StarDist's 67 validation pictures are segmented by the bundled models, E. coli and EM chloroplasts that
pretraining spared by the one for transmitted light, told their diameter, and the test pictures of `few_cells.py`
by models that twenty cells have taught. The network runs once for each picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dsb2018
import few_cells
import models
import trials
from painted_crops import KINDS
from reporting import Figure, arguments, limit_cores, report, run, say, table
from zero_training import validation_names

PEAKS = (0.0, 0.5, 0.6)
"""Lowest peaks that are compared; 0 drops nothing."""
CELLS = 20
SPARED = {"ecoli": "images_brightfield", "em_chloroplast": "images"}
"""Collections of transmitted light with pictures that pretraining spared, and their folder of pictures."""


@dataclass(frozen=True)
class Compared:
    """Matched, false and missed cells of pictures by lowest peak.

    Attributes
    ----------
    words : str
        Which pictures, and which model.
    tallies : mapping of float to list
        By lowest peak, what `trials.tally` gives of each picture.
    """

    words: str
    tallies: Mapping[float, list[list[list[int]]]]

    def ap(self, min_peak: float) -> float:
        """Return AP at IoU 0.5, mean over pictures."""
        return float(trials.combined(self.tallies[min_peak])[0][0])

    def counts(self, min_peak: float) -> tuple[int, int, int]:
        """Return matched, false and missed cells at IoU 0.5."""
        matched, false, missed = np.array(self.tallies[min_peak])[:, :, 0].sum(axis=0).tolist()
        return matched, false, missed


def compared(words: str, model: Any, pictures: Sequence[Any], diameters: Sequence[float] | None = None) -> Compared:
    """Segment pictures once and make cells of the outputs by each lowest peak.

    Parameters
    ----------
    words : str
        What the table calls them.
    model : Model
        Its card says how to segment.
    pictures : sequence of Picture
        With their truth.
    diameters : sequence of float, optional
        Typical diameter of the cells of each picture in pixels; measured by default.
    """
    tallies: dict[float, list[list[list[int]]]] = {min_peak: [] for min_peak in PEAKS}
    for index, picture in enumerate(pictures):
        values = {} if diameters is None else {"diameter": diameters[index]}
        outputs, scale = outputs_of(model, picture, values)
        for min_peak in PEAKS:
            tallies[min_peak].append(trials.tally(picture.truth, cells_of(model, outputs, min_peak, scale)))
    result = Compared(words, tallies)
    say(f"{words}: AP at 0.5 " + ", ".join(f"{result.ap(p):.3f} at {p:g}" for p in PEAKS))
    return result


def outputs_of(model: Any, picture: Any, values: Mapping[str, Any]) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the network's outputs of one picture, and the size at which it saw it."""
    kept: list[tuple[dict[str, NDArray[Any]], float]] = []
    trials.segmented(model, [picture], values, keep=lambda _, outputs, scale: kept.append((dict(outputs), scale)))
    return kept[-1]


def cells_of(model: Any, outputs: Mapping[str, NDArray[Any]], min_peak: float, scale: float = 1.0) -> NDArray[np.int32]:
    """Return the instances that outputs hold by the settings of a model's card, but for the lowest peak."""
    from napari_unet.core.data.rescale import at_own_size
    from napari_unet.core.instances.pipeline import labels_from_outputs
    from napari_unet.core.settings import PredictionSettings, with_values

    settings = with_values(PredictionSettings(), {**model.card.prediction, "min_peak": min_peak})
    return labels_from_outputs(outputs, at_own_size(settings, scale))


def untrained(start: str, limit: int) -> Iterator[Compared]:
    """Yield the comparisons of models as they are."""
    import pretrain
    from napari_unet.core.data.label_ops import median_diameter
    from napari_unet.core.network.model_card import bundled_folder

    names = dsb2018.spread(validation_names(pretrain.DATA), limit)
    nuclei = dsb2018.subset(pretrain.DATA, names, "masks_original")
    yield compared(f"DSB 2018, {len(nuclei)} pictures, no training", trials.start_model(start), nuclei)
    model = trials.start_model(str(bundled_folder("transmitted")))
    for folder, images in SPARED.items():
        pictures = trials.read_pictures(pretrain.DATA / folder / images, pretrain.DATA / folder / "masks")
        spared = pretrain.held_out(p.name for p in pictures)
        chosen = dsb2018.spread([p for p in pictures if p.name in spared], limit)
        diameters = [median_diameter(p.truth) for p in chosen]
        yield compared(
            f"{folder}, {len(chosen)} spared pictures, no training, diameter given", model, chosen, diameters
        )


def painted(start: str, kinds: Sequence[str], seconds: float, limit: int) -> Iterator[Compared]:
    """Yield the comparisons of models that twenty painted cells have taught."""
    for name in kinds:
        task = few_cells.make_task(name, CELLS, limit)
        if task is None:
            continue
        model, about = few_cells.train_ours(task, few_cells.Ours("", start, {}), seconds)
        yield compared(f"{KINDS[name].words}, {CELLS} cells, {about.steps} steps", model, task.tests)


def line(result: Compared) -> list[str]:
    """Return a row of the table."""
    counts = ["{} matched, {} false, {} missed".format(*result.counts(p)) for p in PEAKS[:2]]
    return [result.words, *(f"{result.ap(p):.3f}" for p in PEAKS), *counts]


def main() -> None:
    """Measure and report."""
    chosen = arguments(
        __doc__, model=models.START, cores=trials.CORES,
        kinds={"nargs": "*", "choices": list(KINDS), "default": ["nuclei", "tissue", "phase", "bacteria"]},
        seconds={"type": float, "default": 60.0}, limit={"type": int, "default": 0, "help": "at most so many pictures"},
    )  # fmt: skip
    limit_cores(chosen.cores)
    seconds, limit = (5.0, 2) if chosen.quick else (chosen.seconds, chosen.limit)
    start = models.existing(chosen.model)
    results = [*untrained(start, limit), *painted(start, chosen.kinds, seconds, limit)]
    figures = [
        Figure(f"{r.words}: AP at 0.5 gained by a lowest peak of {PEAKS[1]:g}", r.ap(PEAKS[1]) - r.ap(0.0))
        for r in results
    ]
    header = ["pictures", *(f"AP 0.5, peak {p:g}" for p in PEAKS), *(f"cells at {p:g}" for p in PEAKS[:2])]
    report(figures, f"{models.described(start)}:", table(header, [line(r) for r in results]))


if __name__ == "__main__":
    run(main)
