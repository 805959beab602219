"""Overlap-tile against the whole image at once and against MONAI's sliding window, in one run.

    python benchmarks/tiling.py

All run the same network with the same weights in the same number format, channels last, and end
with class probabilities and distance in float32 on the processor. The whole image is run in two
ways: with real (mirrored) context around it, which gives the very numbers that the tiles give, and
zero-padded, which computes less and is wrong near the edge. MONAI runs the padded network on its
windows, for each of several window sizes; the fastest of them counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reporting import CannotMeasure, Figure, arguments, in_turns, medians, report, run, say, shown, table

OVERLAP = 0.25
TILES = {"overlap-tile, auto": 0, "overlap-tile, 388": 388}
WINDOWS = (256, 512, 640)
EXACT, PADDED = "whole image, real context", "whole image, zero-padded"
SECONDS = 110.0


def build(width: int, device: str) -> Any:
    """Return a predictor with random weights of the default architecture."""
    import torch

    from napari_unet.core.inference.predict import Predictor
    from napari_unet.core.network.device import choose
    from napari_unet.core.network.model_card import Card
    from napari_unet.core.network.model_io import new_model
    from napari_unet.core.settings import NetworkSettings

    torch.manual_seed(0)
    model = new_model(Card("random", NetworkSettings(width=width)))
    return Predictor.create(model.network, choose(device))


def whole_exact(predictor: Any, planes: Any, normalisation: Any) -> NDArray[np.float32]:
    """Return the class probabilities of the whole image, with mirrored context around it."""
    from napari_unet.core.data.arrays import read_mirrored

    geometry = predictor.network.geometry
    sides = [geometry.input_size(geometry.bottom_for(n)[0]) for n in (planes.height, planes.width)]
    start = -geometry.margin
    block = read_mirrored(planes, (), start, start + sides[0], start, start + sides[1])
    return predictor.run(normalisation.apply(block))["classes"][:, : planes.height, : planes.width]


def padded_outputs(predictor: Any, out: Any) -> NDArray[np.float32]:
    """Return the class probabilities from the network's outputs, as the predictor does."""
    import torch

    parts = predictor.network.split(out.float())
    maps = {n: (torch.softmax(p, 1) if n == "classes" else p)[0].cpu().numpy() for n, p in parts.items()}
    return np.asarray(maps["classes"])


def as_input(predictor: Any, planes: Any, normalisation: Any) -> Any:
    """Return the whole image as a tensor on the device."""
    import torch

    block = normalisation.apply(planes.read((), slice(None), slice(None)))
    x = torch.from_numpy(block)[None].to(predictor.compute.device, predictor.compute.dtype)
    return x.contiguous(memory_format=torch.channels_last)


def padded_call(predictor: Any) -> Callable[[Any], Any]:
    """Return the network's padded call on channels-last inputs."""
    import torch

    return lambda x: predictor.network(x.contiguous(memory_format=torch.channels_last), padding="same")


def own_ways(predictor: Any, planes: Any, normalisation: Any) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """Return every way of computing the image without MONAI, by name."""
    import torch

    from napari_unet.core.inference.predict import choose_tile, predict_region

    call, compute = padded_call(predictor), predictor.compute
    box = (0, planes.height, 0, planes.width)

    def tiles(side: int) -> NDArray[np.float32]:
        side = side or choose_tile(predictor.network, compute, planes.height, planes.width)
        return predict_region(predictor, planes, (), box, normalisation, side)["classes"]

    @torch.inference_mode()
    def padded() -> NDArray[np.float32]:
        return padded_outputs(predictor, call(as_input(predictor, planes, normalisation)))

    made: dict[str, Callable[[], NDArray[np.float32]]] = {
        EXACT: lambda: whole_exact(predictor, planes, normalisation),
        PADDED: padded,
    }
    return made | {name: lambda side=side: tiles(side) for name, side in TILES.items()}


def monai_ways(predictor: Any, planes: Any, normalisation: Any) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """Return MONAI's ways of computing the image, by name."""
    import torch

    try:
        from monai.inferers import sliding_window_inference
    except ImportError as error:
        raise CannotMeasure(f"{error}; python -m pip install --no-deps monai") from error
    call = padded_call(predictor)

    @torch.inference_mode()
    def monai(window: int) -> NDArray[np.float32]:
        x = as_input(predictor, planes, normalisation)
        return padded_outputs(predictor, sliding_window_inference(x, window, 1, call, overlap=OVERLAP))

    usable = [w for w in WINDOWS if w < planes.height]
    return {f"MONAI, windows of {w}": lambda w=w: monai(w) for w in usable}


def differences(made: dict[str, Callable[[], NDArray[np.float32]]]) -> dict[str, float]:
    """Return each way's largest difference in probability from the whole image with context; warms up as well."""
    truth = made[EXACT]()
    return {name: float(np.abs(way() - truth).max()) for name, way in made.items()}


def main() -> None:
    """Measure and report."""
    chosen = arguments(__doc__, device={"default": "auto"})
    from napari_unet.core.data.arrays import Planes, plane_normalisation
    from napari_unet.core.synthetic import generate

    side, width, repeats = (512, 16, 2) if chosen.quick else (2048, 32, 5)
    predictor = build(width, chosen.device)
    image = np.tile(generate("nuclei", (512, 512), seed=3)[0], (side // 512, side // 512))
    planes = Planes(image, "yx")
    normalisation = plane_normalisation(planes, ())
    made = own_ways(predictor, planes, normalisation) | monai_ways(predictor, planes, normalisation)
    say(f"{len(made)} ways in turns, {side} x {side}, width {width}, {predictor.compute.precision}")
    off = differences(made)
    taken = in_turns(made, repeats, warm_up=0, seconds=SECONDS)
    middle = medians(taken)
    rate = {name: side * side / 1e6 / seconds for name, seconds in middle.items()}
    monai = max((n for n in made if n.startswith("MONAI")), key=rate.__getitem__)
    ours = next(iter(TILES))
    about = f"{side} x {side}, width {width}, {predictor.compute.device}, {predictor.compute.precision}"
    about += f", median of {len(taken[ours])} in turns"

    def ratio(other: str, promise: float) -> Figure:
        detail = f"{shown(rate[ours])} against {shown(rate[other])} Mpx/s; {about}"
        return Figure(f"{ours}: rate over {other}", rate[ours] / rate[other], detail=detail, at_least=promise)

    rows = [
        [n, f"{middle[n]:.3f}", f"{min(taken[n]):.3f} to {max(taken[n]):.3f}", f"{rate[n]:.3f}", f"{off[n]:.1e}"]
        for n in made
    ]
    header = ["way", "seconds (median)", "range", "Mpx/s", "largest difference in probability from real context"]
    figures = [ratio(EXACT, 0.90), ratio(PADDED, 0.90), ratio(monai, 1.25)]
    report(figures, f"All ways; MONAI at {OVERLAP:.0%} overlap:", table(header, rows))


if __name__ == "__main__":
    run(main)
