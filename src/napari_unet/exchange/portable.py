"""The network as other programs run it: one size in and out, probabilities instead of logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.data.arrays import Normalisation, Planes, plane_normalisation
from ..core.network.model_io import Model
from ..core.network.unet import CLASSES
from ..core.synthetic import generate

INPUT, PROBABILITIES, DISTANCE = "image", "probabilities", "distance"
_DIAMETER = 24.0


class Portable(nn.Module):
    """A network that is padded with zeros to keep the size of its input, and ends in a softmax.

    Without branches on sizes, so that it can be traced. Pixels that are at least :attr:`halo` away from
    the border are computed from real context alone, and equal those of a segmentation by this package.

    Parameters
    ----------
    model : Model
        What to wrap; batch normalisation is folded into the convolutions.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        fused = model.network.fused()
        self.down, self.up, self.head = fused.down, fused.up, fused.head
        self._classes = fused.outputs[CLASSES]
        self._distance = fused.outputs.get("distance")
        self.stride = fused.geometry.stride
        self.halo = -(-fused.geometry.margin // self.stride) * self.stride
        self.eval()

    @property
    def smallest(self) -> int:
        """Smallest side in pixels that leaves something inside of the halo."""
        return 2 * self.halo + self.stride

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what :meth:`forward` returns."""
        return (PROBABILITIES, DISTANCE) if self._distance else (PROBABILITIES,)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return class probabilities (N, K, Y, X), and distances (N, 1, Y, X) where the network has them.

        Parameters
        ----------
        image : Tensor
            Normalised, (N, C, Y, X); the sides are multiples of :attr:`stride`.
        """
        # Unpadded, as this package segments, the poolings begin at the third pixel of the image; here too then.
        after = 2
        before = self.stride - after
        x, skips = F.pad(image, (before, after, before, after)), []
        for level, convs in enumerate(self.down):
            x = convs(F.max_pool2d(x, 2) if level else x, 1)
            skips.append(x)
        x = skips.pop()
        ups: Iterable[Any] = self.up
        for up in ups:
            x = up.convs(torch.cat([skips.pop(), up.up(x)], 1), 1)
        out = self.head(x)[..., before:-after, before:-after]
        probabilities = torch.softmax(out[:, self._classes], 1)
        return (probabilities, out[:, self._distance]) if self._distance else (probabilities,)

    def run(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs for a normalised (N, C, Y, X) image as arrays."""
        with torch.inference_mode():
            return tuple(np.asarray(part.numpy(), np.float32) for part in self(torch.from_numpy(image)))


def sample(model: Model, side: int) -> NDArray[np.float32]:
    """Return a generated picture with grey values as from a camera, (1, C, Y, X); the same every time."""
    picture, _ = generate("nuclei", (side, side), 5, diameter=model.card.diameter or _DIAMETER)
    grey = np.asarray(picture, np.float32)
    grey = np.rint(100 + 900 * (grey - grey.min()) / max(float(np.ptp(grey)), 1e-6))
    return np.stack([np.roll(grey, 7 * c, axis=1) for c in range(model.card.channels)])[np.newaxis].astype(np.float32)


def normalised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a (1, C, Y, X) picture on the network's scale, as a segmentation does it."""
    scale: Normalisation = plane_normalisation(Planes(image[0], "cyx"), ())
    return scale.apply(image[0])[np.newaxis].astype(np.float32)
