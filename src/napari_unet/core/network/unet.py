"""The network of Fig. 1 in Ronneberger, Fischer and Brox (MICCAI 2015, arXiv 1505.04597)."""

from __future__ import annotations

import copy
import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.tiles import Geometry
from ..errors import SettingsError
from ..settings import NetworkSettings

CLASSES = "classes"
"""Name of the softmax outputs of equation 1, as logits."""
DISTANCE = "distance"
"""Name of the distance to the cell's border, scaled to 1 at the cell's centre."""


class DoubleConv(nn.Module):
    """Two 3 x 3 convolutions, each followed by a ReLU (and batch normalisation, if chosen).

    Parameters
    ----------
    in_channels, out_channels : int
        Feature maps before and after.
    norm : str
        ``"none"`` as in the paper, or ``"batch"``.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3)
        self.norm1 = nn.BatchNorm2d(out_channels) if norm == "batch" else nn.Identity()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3)
        self.norm2 = nn.BatchNorm2d(out_channels) if norm == "batch" else nn.Identity()

    def forward(self, x: Tensor, pad: int) -> Tensor:
        """Return features two convolutions on; ``pad`` is 0 (valid) or 1 (same)."""
        x = F.relu(self.norm1(F.conv2d(x, self.conv1.weight, self.conv1.bias, padding=pad)), inplace=True)
        return F.relu(self.norm2(F.conv2d(x, self.conv2.weight, self.conv2.bias, padding=pad)), inplace=True)


class Up(nn.Module):
    """2 x 2 up-convolution, concatenation with the cropped features of the same level, double convolution."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.convs = DoubleConv(2 * out_channels, out_channels, norm)

    def forward(self, x: Tensor, skip: Tensor, pad: int) -> Tensor:
        """Return features at the skip's level."""
        x = self.up(x)
        both: Tensor = self.convs(torch.cat([crop(skip, x.shape[-2], x.shape[-1]), x], dim=1), pad)
        return both


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """Return the centre of (N, C, Y, X) features ("copy and crop" in Fig. 1)."""
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


class UNet(nn.Module):
    """The U-Net.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    classes : int
        Softmax classes, background included.
    width : int
        Feature maps of the first level, doubled at each level below; 64 in the paper.
    depth : int
        Poolings; 4 in the paper.
    padding : str
        ``"valid"``: unpadded convolutions, 572 -> 388 at depth 4, as in the paper.
        ``"same"``: zero-padded, the output has the size of the input.
    norm : str
        ``"none"`` as in the paper, or ``"batch"``.
    dropout : float
        Share dropped at the end of the contracting path while training.
    distance : bool
        Whether there is a distance output beside the classes.

    Examples
    --------
    >>> net = UNet()
    >>> sum(p.numel() for p in net.parameters())
    31030658
    >>> net.geometry.margin, net.geometry.output_size(28), net.geometry.input_size(28)
    (92, 388, 572)
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        width: int = 64,
        depth: int = 4,
        padding: str = "valid",
        norm: str = "none",
        dropout: float = 0.5,
        distance: bool = False,
    ) -> None:
        super().__init__()
        if padding not in ("valid", "same"):
            raise SettingsError(f"padding is {padding!r}, but has to be valid or same.")
        self.in_channels, self.classes, self.padding = in_channels, classes, padding
        self.geometry = Geometry(depth)
        self.outputs: dict[str, slice] = {CLASSES: slice(0, classes)}
        if distance:
            self.outputs[DISTANCE] = slice(classes, classes + 1)
        maps = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(DoubleConv(i, o, norm) for i, o in zip([in_channels, *maps], maps, strict=False))
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(Up(2 * m, m, norm) for m in reversed(maps[:-1]))
        self.head = nn.Conv2d(width, classes + int(distance), 1)
        self.apply(_he_initialise)

    @classmethod
    def from_settings(cls, settings: NetworkSettings, in_channels: int, classes: int) -> Self:
        """Return the network that the settings describe."""
        return cls(
            in_channels, classes, settings.width, settings.depth, settings.padding, settings.norm,
            settings.dropout, settings.distance,
        )  # fmt: skip

    def forward(self, x: Tensor, padding: str | None = None) -> Tensor:
        """Return the outputs as (N, classes [+ 1], Y, X); :meth:`split` names them.

        Parameters
        ----------
        x : Tensor
            (N, in_channels, Y, X).
        padding : str, optional
            Overrides the network's own: segmentation runs every network ``"valid"``, on real context.

        Raises
        ------
        SettingsError
            For a size at which a pooling would meet an odd number of pixels.
        """
        pad = int((padding or self.padding) == "same")
        self._check_size(x, pad)
        skips = []
        for level, convs in enumerate(self.down):
            if level:
                x = F.max_pool2d(x, 2)
            x = convs(x, pad)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up in self.up:
            x = up(x, skips.pop(), pad)
        out: Tensor = self.head(x)
        return out

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs of :meth:`forward` by name, each (N, k, Y, X)."""
        return {name: x[:, where] for name, where in self.outputs.items()}

    def fused(self) -> UNet:
        """Return a copy for inference whose batch normalisation is folded into the convolutions.

        In evaluation mode both compute the same; the copy needs less memory and time.
        """
        fused = copy.deepcopy(self).eval()
        for convs in [m for m in fused.modules() if isinstance(m, DoubleConv)]:
            for conv, name in ((convs.conv1, "norm1"), (convs.conv2, "norm2")):
                norm = getattr(convs, name)
                if isinstance(norm, nn.BatchNorm2d):
                    _fold(conv, norm)
                    setattr(convs, name, nn.Identity())
        return fused

    def _check_size(self, x: Tensor, pad: int) -> None:
        """Raise a :class:`SettingsError` when the input's size does not fit the poolings."""
        height, width = x.shape[-2:]
        geometry = self.geometry
        if pad:
            valid, rule = height % geometry.stride == width % geometry.stride == 0, f"a multiple of {geometry.stride}"
        else:
            valid = geometry.is_valid_input(height) and geometry.is_valid_input(width)
            rule = f"{geometry.stride} n + {geometry.input_size(0) % geometry.stride}"
            rule += f" and at least {geometry.input_size(geometry.bottom_for(1)[0])}"
        if not valid:
            raise SettingsError(f"The network takes inputs whose sides are {rule} pixels, not {height} x {width}.")


def _he_initialise(module: nn.Module) -> None:
    """Draw weights from a Gaussian of standard deviation sqrt(2 / N), N incoming nodes (section 3)."""
    if isinstance(module, nn.Conv2d):
        incoming = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
    elif isinstance(module, nn.ConvTranspose2d):
        # Stride equals kernel, so each output pixel sees one input pixel of every channel.
        incoming = module.in_channels
    else:
        return
    nn.init.normal_(module.weight, std=math.sqrt(2 / incoming))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Multiply a batch normalisation's running affine map into the convolution before it."""
    if norm.running_mean is None or norm.running_var is None or conv.bias is None:
        return
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    conv.weight.mul_(factor[:, None, None, None])
    conv.bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
