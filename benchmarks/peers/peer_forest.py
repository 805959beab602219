"""A random forest on multiscale features, as in scikit-image's example "Trainable segmentation".

Three classes (background, inside of a cell, border of a cell) tell touching cells apart: instances are the
connected pieces of inside, grown back over the border. Trees are added until the time is over.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from protocol import Job, Report, Segment, answer

MOST_TREES, TREES_AT_ONCE, PIXELS_PER_TREE = 200, 4, 20_000
SMALLEST = 0.1
"""Area of the smallest cell over the median area."""
SIGMAS = 0.5, 16.0
"""scikit-image's default range of scales in pixels."""
MARGIN = 48
"""Context in pixels around a crop, three times the largest scale, so that its features are those of the picture."""
INSIDE, BORDER = 1, 2


def features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return intensity, edges and texture at all scales, (Y, X, features)."""
    from skimage.feature import multiscale_basic_features

    return multiscale_basic_features(image, sigma_min=SIGMAS[0], sigma_max=SIGMAS[1])


def normalised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture with its 1st and 99.8th percentile at 0 and 1."""
    low, high = np.percentile(image, (1, 99.8))
    return ((image - low) / max(high - low, 1e-6)).astype(np.float32)


def classes(labels: NDArray[np.int32], width: int) -> NDArray[np.uint8]:
    """Return the class of each pixel; the border lies inside of the cells and is ``width`` pixels wide."""
    from scipy.ndimage import maximum_filter, minimum_filter

    size = 2 * width + 1
    uniform = maximum_filter(labels, size) == minimum_filter(labels, size)
    return np.where(labels == 0, 0, np.where(uniform, INSIDE, BORDER)).astype(np.uint8)


def border_width(diameter: float) -> int:
    """Return the width of the border in pixels that leaves most of a cell inside."""
    return max(1, round(diameter / 20))


def instances(found: NDArray[np.uint8], smallest: int) -> NDArray[np.int32]:
    """Return the pieces of inside, grown over the border, without specks."""
    from skimage.measure import label
    from skimage.segmentation import watershed

    seeds = without_specks(label(found == INSIDE, connectivity=1), smallest // 4)
    return without_specks(watershed(found == BORDER, seeds, mask=found > 0), smallest)


def without_specks(labels: NDArray[np.int32], smallest: int) -> NDArray[np.int32]:
    """Return the labels without objects of fewer pixels."""
    kept = np.bincount(labels.ravel()) >= smallest
    return np.where(kept[labels], labels, 0).astype(np.int32)


def smoothed(chances: NDArray[np.float64], diameter: float) -> NDArray[np.float64]:
    """Return the chances of the classes, (Y, X, classes), without single pixels that stand out."""
    from scipy.ndimage import gaussian_filter

    sigma = diameter / 30
    return gaussian_filter(chances, (sigma, sigma, 0))


def pixels(job: Job) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return features and classes of all labelled pixels."""
    found, targets = [], []
    for crop in job.crops:
        rows, columns = crop.around(MARGIN)
        made = features(normalised(crop.image)[rows, columns])
        y0, y1, x0, x1 = crop.box
        found.append(made[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start])
        targets.append(classes(crop.labels, border_width(job.diameter)))
    return np.concatenate([f.reshape(-1, f.shape[-1]) for f in found]), np.concatenate([t.ravel() for t in targets])


def fit(job: Job) -> tuple[Segment, Report]:
    """Grow trees until the time is over."""
    import sklearn
    from sklearn.ensemble import RandomForestClassifier

    begin = time.perf_counter()
    x, y = pixels(job)
    forest = RandomForestClassifier(
        0, max_samples=min(len(y), PIXELS_PER_TREE), min_samples_leaf=3, n_jobs=job.threads, warm_start=True,
        random_state=job.seed,
    )  # fmt: skip
    while forest.n_estimators < MOST_TREES and (not forest.n_estimators or time.perf_counter() - begin < job.seconds):
        forest.n_estimators += TREES_AT_ONCE
        forest.fit(x, y)
    took = time.perf_counter() - begin

    def segment(image: NDArray[np.float32]) -> NDArray[np.int32]:
        made = features(normalised(image))
        chances = forest.predict_proba(made.reshape(-1, made.shape[-1])).reshape(*image.shape, -1)
        found = forest.classes_[smoothed(chances, job.diameter).argmax(axis=-1)]
        return instances(found, round(SMALLEST * np.pi / 4 * job.diameter**2))

    name = f"scikit-learn {sklearn.__version__}"
    return segment, Report(name, forest.n_estimators, took, f"{len(y)} labelled pixels, {x.shape[1]} features")


if __name__ == "__main__":
    answer(fit)
