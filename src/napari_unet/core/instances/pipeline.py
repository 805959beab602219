"""Network outputs of one plane to labels. Needs no torch, so that a slider can re-label.

One way for small and large planes: a plane goes through block by block, in three passes. The result
does not depend on the blocks, see :mod:`~napari_unet.core.instances.watershed` and
:mod:`~napari_unet.core.instances.cleanup`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data.arrays import PlaneIndex, WritableArray
from ..data.blocks import Block, blocks
from ..data.prefetch import ahead, cores
from ..settings import PredictionSettings
from .cleanup import Cleanup, restore_boundaries
from .elevation import DISTANCE_STEPS, PROBABILITY_STEPS, Maps, elevation, quantise
from .watershed import BasinGraph, BlockBasins, catchment_basins, connected_components

SIDE = 512
"""Side in pixels of the blocks of planes that are held in memory: what is worked on stays in the processor's caches."""

_MOST_WORKERS = 4
"""Blocks that are worked on at once; each needs some hundred bytes per pixel."""

T = TypeVar("T")
Outputs = Mapping[str, NDArray[Any]]
"""Named maps of one plane: ``"classes"`` (K, Y, X) probabilities and, if the model has it, ``"distance"`` (1, Y, X)."""
OutputsCallback = Callable[[PlaneIndex, Outputs, float], None]
"""Is given a plane, its outputs at the image's own size, and the size at which the network saw it over that."""


def foreground(outputs: Outputs) -> NDArray[np.float32]:
    """Return the probability of not being background, (Y, X)."""
    return np.asarray(1 - outputs["classes"][0].astype(np.float32), np.float32)


def labels_from_outputs(outputs: Outputs, settings: PredictionSettings) -> NDArray[Any]:
    """Return what the settings ask for, from one plane's network outputs.

    Parameters
    ----------
    outputs : Outputs
        Named maps, (k, Y, X) each.
    settings : PredictionSettings
        ``what`` and, for instances, the settings from ``threshold`` to ``gap``; in pixels of these maps, see
        :func:`~napari_unet.core.data.rescale.at_own_size`.

    Returns
    -------
    NDArray
        (Y, X): int32 instance labels 1..n in raster order, uint8 classes, or float32 probabilities.

    Raises
    ------
    SettingsError
        When distance separation is asked of a model without a distance output.
    """
    if settings.what == "probabilities":
        return foreground(outputs)
    if settings.what == "classes":
        return np.asarray(outputs["classes"].argmax(axis=0), np.uint8)
    return segment_instances(foreground(outputs), outputs.get("distance"), settings)


def segment_instances(
    probability: NDArray[np.float32], distance: NDArray[Any] | None, settings: PredictionSettings
) -> NDArray[np.int32]:
    """Return instance labels of one plane.

    Threshold; separation; gap given back; holes filled; small cells dropped.

    Parameters
    ----------
    probability : NDArray of float32
        Foreground, (Y, X).
    distance : NDArray or None
        Distance output, (1, Y, X) or (Y, X).
    settings : PredictionSettings
        See there.
    """
    maps = Maps(
        quantise(probability, PROBABILITY_STEPS),
        None if distance is None else quantise(distance.reshape(probability.shape), DISTANCE_STEPS),
    )
    labels = np.zeros(probability.shape, np.int32)
    for _ in segment_maps(maps, labels, settings):
        continue
    return labels


def segment_maps(
    maps: Maps,
    output: WritableArray,
    settings: PredictionSettings,
    side: int = SIDE,
    scratch: Callable[[tuple[int, ...], Any], WritableArray] = np.zeros,
) -> Generator[tuple[int, int], None, int]:
    """Write the instance labels of a plane block by block; the result does not depend on the blocks.

    Parameters
    ----------
    maps : Maps
        What the network says of the plane.
    output : WritableArray
        (Y, X); is given labels 1..n in raster order. Provisional ones go there before, if its numbers have 32 bits.
    settings : PredictionSettings
        From ``threshold`` to ``gap``.
    side : int
        Of a block in pixels, at least 1. Memory grows with its square.
    scratch : callable
        Makes an array of zeros of a shape and dtype, as large as the plane; by default in memory.

    Yields
    ------
    done, total : int
        Blocks done in all passes, and their number.

    Returns
    -------
    int
        How many cells there are.

    Raises
    ------
    SettingsError
        When distance separation is asked of a model without a distance output.
    """
    height, width = maps.foreground.shape
    every = blocks(height, width, side)
    min_peak = maps.min_peak(settings)
    if len(every) == 1:
        labels, count = _single_block(segment_block(maps, settings, every[0]), every[0], settings, min_peak)
        output[every[0].slices] = labels
        return count
    provisional = scratch((height, width), np.uint32)
    graph = BasinGraph(settings.seed_height)
    regions = yield from _watershed_pass(partial(segment_block, maps, settings), graph, every, provisional)
    # Provisional numbers may be larger than the final ones.
    between = output if np.dtype(output.dtype).itemsize >= 4 else scratch((height, width), np.uint32)
    work = Cleanup(graph.heights, settings.holes, settings.smallest, min_peak)
    return (yield from _cleanup_passes(regions, work, every, settings.boundary_erosion, provisional, between, output))


def _in_threads(work: Callable[[Block], T], every: list[Block]) -> Iterator[tuple[Block, T]]:
    """Yield each block and what some work makes of it, in order."""
    return ahead(work, every, max(1, min(_MOST_WORKERS, len(every), cores())))


def segment_block(maps: Maps, settings: PredictionSettings, block: Block) -> BlockBasins:
    """Return the connected components or catchment basins of a block."""
    heights = elevation(maps, settings, block)
    if maps.method(settings) == "components":
        return connected_components(heights, block)
    return catchment_basins(heights, block, settings.seed_height)


def _single_block(
    pieces: BlockBasins, block: Block, settings: PredictionSettings, min_peak: float
) -> tuple[NDArray[np.int32], int]:
    """Return labels and number of cells of a plane that is one block."""
    graph = BasinGraph(settings.seed_height)
    graph.add(pieces)
    regions = graph.solve().astype(np.int32)
    work = Cleanup(graph.heights, settings.holes, settings.smallest, min_peak)
    grown = restore_boundaries(regions[pieces.labels], settings.boundary_erosion)
    work.add(block.framed(grown, 0, -1), block)
    count = work.decide()
    return work.final_labels(grown, block), count


def _watershed_pass(
    split: Callable[[Block], BlockBasins], graph: BasinGraph, every: list[Block], provisional: WritableArray
) -> Generator[tuple[int, int], None, NDArray[np.int32]]:
    """Write pieces that are numbered over all blocks, and return the region of each."""
    for done, (block, pieces) in enumerate(_in_threads(split, every), 1):
        offset = graph.add(pieces)
        provisional[block.slices] = np.where(pieces.labels > 0, pieces.labels + np.int64(offset), 0)
        yield done, 3 * len(every)
    return graph.solve().astype(np.int32)


def _cleanup_passes(
    regions: NDArray[np.int32],
    work: Cleanup,
    every: list[Block],
    boundary_erosion: int,
    provisional: WritableArray,
    between: WritableArray,
    output: WritableArray,
) -> Generator[tuple[int, int], None, int]:
    """Write the regions with their gaps given back, ``between`` the passes, then the final labels; return how many."""
    halo = 2 * boundary_erosion + 1

    def grown(block: Block) -> NDArray[np.int32]:
        return block.framed(restore_boundaries(regions[block.read(provisional, halo)], boundary_erosion), halo, -1)

    for done, (block, frame) in enumerate(_in_threads(grown, every), len(every) + 1):
        work.add(frame, block)
        between[block.slices] = frame[1:-1, 1:-1]
        yield done, 3 * len(every)
    count = work.decide()

    def final_labels(block: Block) -> NDArray[np.int32]:
        return work.final_labels(np.asarray(between[block.slices]).astype(np.int32), block)

    for done, (block, labels) in enumerate(_in_threads(final_labels, every), 2 * len(every) + 1):
        output[block.slices] = labels
        yield done, 3 * len(every)
    return count


__all__ = [
    "SIDE",
    "OutputsCallback",
    "Outputs",
    "foreground",
    "labels_from_outputs",
    "segment_instances",
    "segment_maps",
    "segment_block",
]
