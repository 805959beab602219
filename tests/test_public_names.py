from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import napari_unet


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after some code."""
    report = "import sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"torch", "qtpy", "PyQt6", "PySide6", "napari", "vispy", "magicgui"}


def test_importing_the_package_loads_next_to_nothing() -> None:
    assert not loaded_by("import napari_unet") & (HEAVY | {"numpy", "scipy", "skimage", "tifffile", "zarr"})


def test_what_needs_no_torch_does_not_load_it() -> None:
    assert not loaded_by("from napari_unet import AnnotatedImage, Planes, read_card, open_picture, Finished") & HEAVY
    assert "torch" in loaded_by("from napari_unet import load_model")


@pytest.mark.parametrize("name", napari_unet.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(napari_unet, name)
    assert value.__name__ == name
    assert inspect.getdoc(value)


def test_names_are_listed_once_and_in_order() -> None:
    assert napari_unet.__all__ == sorted(set(napari_unet.__all__))
    assert set(napari_unet.__all__) == set(napari_unet._HOME_OF)
    assert set(napari_unet.__all__) <= set(dir(napari_unet))


def test_unknown_names_are_told() -> None:
    with pytest.raises(AttributeError, match="module 'napari_unet' has no attribute 'segmant'"):
        napari_unet.segmant  # noqa: B018


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert napari_unet.__version__ == version("napari-interactive-unet")
