from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from napari_unet.core.errors import SettingsError
from napari_unet.core.network.model_io import Model
from napari_unet.core.network.unet import CLASSES, DISTANCE, UNet, crop


def convolutions(network: UNet) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]


@pytest.fixture(scope="module")
def paper() -> UNet:
    torch.manual_seed(0)
    return UNet()


def test_the_network_of_the_paper(paper: UNet) -> None:
    assert sum(p.numel() for p in paper.parameters()) == 31_030_658
    assert len(convolutions(paper)) == 23
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in paper.modules()) == 4
    assert [c.out_channels for c in convolutions(paper)[:10]] == [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in paper.modules())


def test_572_becomes_388() -> None:
    # The same arithmetic with fewer maps; on the meta device nothing is computed.
    with torch.device("meta"):
        assert UNet(width=1)(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_he_initialisation(paper: UNet) -> None:
    for conv in convolutions(paper):
        if isinstance(conv, nn.ConvTranspose2d):
            incoming = conv.in_channels  # stride equals kernel: one input pixel of every channel per output
        else:
            incoming = conv.in_channels * conv.kernel_size[0] ** 2
        weight = conv.weight.detach()
        expected, count = math.sqrt(2 / incoming), weight.numel()
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * count))
        assert abs(weight.mean().item()) < 5 * expected / math.sqrt(count)
        assert conv.bias is not None and not conv.bias.any()


def test_he_initialisation_keeps_the_variance_of_the_features(paper: UNet) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        out = paper.eval()(torch.randn(1, 1, 188, 188))
    assert 0.1 < out.std().item() < 50


@pytest.mark.parametrize("depth", range(1, 7))
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_size_arithmetic_is_that_of_the_real_network(depth: int, padding: str) -> None:
    with torch.device("meta"):
        network = UNet(width=1, depth=depth, padding=padding)
        geometry = network.geometry
        for bottom in {geometry.bottom_for(n)[0] + extra for n in (1, 50) for extra in (0, 1)}:
            size, other = geometry.input_size(bottom), geometry.input_size(bottom + 2)
            out = network(torch.empty(1, 1, size, other), padding="valid")
            assert out.shape[-2:] == (geometry.output_size(bottom), geometry.output_size(bottom + 2))
            assert size - out.shape[-2] == 2 * geometry.margin
        if padding == "same":
            side = 3 * geometry.stride
            assert network(torch.empty(2, 1, side, 2 * side)).shape == (2, 2, side, 2 * side)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_sizes_that_do_not_fit_are_refused_and_all_others_work(depth: int, padding: str) -> None:
    with torch.device("meta"):
        network = UNet(width=1, depth=depth, padding=padding)
        for size in range(1, 130):
            ok = network.geometry.is_valid_input(size) if padding == "valid" else size % network.geometry.stride == 0
            if ok:
                assert network(torch.empty(1, 1, size, size)).numel() > 0
            else:
                with pytest.raises(SettingsError, match=f"not {size} x {size}"):
                    network(torch.empty(1, 1, size, size))


def test_the_rule_in_the_message_is_the_rule() -> None:
    with pytest.raises(SettingsError, match="sides are 16 n \\+ 12 and at least 188 pixels, not 570 x 572"):
        UNet(width=1)(torch.empty(1, 1, 570, 572))
    with pytest.raises(SettingsError, match="a multiple of 16 pixels, not 16 x 8"):
        UNet(width=1, padding="same")(torch.empty(1, 1, 16, 8))
    with pytest.raises(SettingsError, match="padding is 'full'"):
        UNet(width=1, padding="full")


def test_an_output_pixel_sees_about_its_margin() -> None:
    torch.manual_seed(0)
    network = UNet(width=4, depth=2, dropout=0.0).eval()
    size = network.geometry.input_size(9)
    x = torch.randn(1, 1, size, size, requires_grad=True)
    out = network(x)
    middle = out.shape[-1] // 2
    out[0, :, middle, middle].sum().backward()
    reached = torch.nonzero(x.grad[0, 0])
    centre = middle + network.geometry.margin
    # Where a pixel lies in the pooling pattern decides how far it sees to which side.
    far = (reached - centre).abs().max()
    assert network.geometry.margin - network.geometry.stride < far < network.geometry.margin + network.geometry.stride


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_fused_computes_the_same_in_evaluation(tiny_model: Callable[..., Model], norm: str, padding: str) -> None:
    network = tiny_model(norm=norm, padding=padding, channels=2).network.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    size = 64 if padding == "same" else network.geometry.input_size(6)
    x = torch.randn(2, 2, size, size)
    fused = network.fused()
    with torch.inference_mode():
        expected = network(x)
        torch.testing.assert_close(fused(x), expected, atol=1e-4, rtol=1e-4)
        assert expected.std() > 0.01
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_fused_of_a_training_network_has_no_dropout() -> None:
    torch.manual_seed(0)
    network = UNet(width=16, depth=1, padding="same", dropout=0.5).train()
    x = torch.randn(1, 1, 16, 16)
    fused = network.fused()
    assert torch.equal(fused(x), fused(x)) and network.training
    assert not torch.equal(network(x), network(x))


def test_outputs_are_named() -> None:
    network = UNet(in_channels=3, classes=4, width=4, depth=1, padding="same", distance=True)
    parts = network.split(network(torch.randn(2, 3, 8, 8)))
    assert {k: tuple(v.shape) for k, v in parts.items()} == {CLASSES: (2, 4, 8, 8), DISTANCE: (2, 1, 8, 8)}
    assert set(UNet(width=4, depth=1).outputs) == {CLASSES}


def test_crop_takes_the_centre() -> None:
    x = torch.arange(49.0).reshape(1, 1, 7, 7)
    assert torch.equal(crop(x, 3, 5), x[..., 2:5, 1:6])
