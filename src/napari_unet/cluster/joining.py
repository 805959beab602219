"""Separate the cells of one large plane: each step of a block is a task, merging blocks happens here.

The three passes of :mod:`~napari_unet.core.instances.pipeline`. Pieces are numbered within each block here, and
every pass writes into an array of its own, so that a block can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.data.blocks import Block
from ..core.events import Fallback
from ..core.inference.chunked import SIDE, LargePlane
from ..core.instances.cleanup import BlockSummary, Cleanup
from ..core.instances.watershed import BasinGraph, BlockBasins
from .job_spec import JobSpec
from .pool import Pool, Task

Pass = Generator[Fallback, None, dict[int, Any] | None]


@dataclass(frozen=True)
class Blocks:
    """The blocks of a plane in raster order, and their workers.

    Attributes
    ----------
    pool : Pool
        Workers.
    spec : JobSpec
        The job.
    large : LargePlane
        The plane.
    stop : callable
        Called regularly; ends the work when it returns True.
    """

    pool: Pool
    spec: JobSpec
    large: LargePlane
    stop: Callable[[], bool]

    def every(self, name: str, given: Callable[[int], tuple[Any, ...]] = lambda _: ()) -> Pass:
        """Run one task for every block; return the results by number, or None if stopped."""
        blocks = self.large.parts()
        tasks: Iterator[Task] = ((n, name, (self.large.plane, block, *given(n))) for n, block in enumerate(blocks))
        found: dict[int, Any] = {}
        steps = self.pool.work(self.spec, tasks, self.stop)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return found if end.value else None
            if isinstance(step, Fallback):
                yield step
            else:
                found[step[0]] = step[1]

    def near(self, number: int, reach: int) -> list[int]:
        """Return the numbers of the blocks within some pixels of a block, itself among them."""
        block = self.large.parts()[number]
        columns = -(-block.width // SIDE)
        rows = range(max(0, block.y0 - reach) // SIDE, (min(block.height, block.y1 + reach) - 1) // SIDE + 1)
        across = range(max(0, block.x0 - reach) // SIDE, (min(block.width, block.x1 + reach) - 1) // SIDE + 1)
        return [y * columns + x for y in rows for x in across]


def write_labels(blocks: Blocks) -> Generator[Fallback, None, int | None]:
    """Write the final labels of a plane with complete outputs; return the number of cells, or None if stopped."""
    pieces = yield from blocks.every("split")
    if pieces is None:
        return None
    graph = BasinGraph(blocks.spec.settings.seed_height)
    regions = regions_of(pieces, graph)
    parts, halo = blocks.large.parts(), 2 * blocks.spec.labelling.boundary_erosion + 1
    notes = yield from blocks.every(
        "grow", lambda n: ([(parts[other], regions[other]) for other in blocks.near(n, halo)],)
    )
    if notes is None:
        return None
    cleanup = gathered(notes, parts, graph.heights, blocks)
    count = cleanup.decide()
    done = yield from blocks.every(
        "number", lambda n: (notes[n].regions, cleanup.numbers(notes[n].regions), cleanup.filled(parts[n]))
    )
    return None if done is None else count


def regions_of(pieces: dict[int, BlockBasins], graph: BasinGraph) -> list[NDArray[np.int32]]:
    """Solve an empty graph for all pieces; return for each block the region of each of its pieces, after a 0."""
    offsets = [graph.add(pieces[n]) for n in range(len(pieces))]
    regions = graph.solve().astype(np.int32)
    ends = [*offsets[1:], len(regions) - 1]
    return [
        np.concatenate([[0], regions[1 + start : 1 + end]]).astype(np.int32)
        for start, end in zip(offsets, ends, strict=True)
    ]


def gathered(
    notes: dict[int, BlockSummary], parts: list[Block], heights: NDArray[np.float32], blocks: Blocks
) -> Cleanup:
    """Return the cleanup of a plane, from the notes of each block."""
    settings = blocks.spec.settings
    cleanup = Cleanup(heights, settings.holes, settings.smallest, blocks.large.maps().min_peak(settings))
    for number, block in enumerate(parts):
        cleanup.add_summary(notes[number], block)
    return cleanup


def write_values(blocks: Blocks) -> Generator[Fallback, None, int | None]:
    """Write the classes or probabilities of a plane; return 0, or None if stopped."""
    done = yield from blocks.every("write_values")
    return None if done is None else 0


__all__ = ["Blocks", "gathered", "regions_of", "write_labels", "write_values"]
