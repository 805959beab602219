import shlex
from types import SimpleNamespace

import pytest

from napari_unet.records import shell_words


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["napari-unet", "train", "--set", "elastic=2.5"], "napari-unet train --set elastic=2.5"),
        ([r"C:\Users\Anna\dna.tif", "--what", "instances"], r"C:\Users\Anna\dna.tif --what instances"),
        ([r"C:\Users\Anna Blum\dna.tif", "R&D.tif"], r'"C:\Users\Anna Blum\dna.tif" "R&D.tif"'),
        (["--planes", "0,1,2", "--model", "bundled:nuclei"], '--planes "0,1,2" --model bundled:nuclei'),
    ],
)
def test_a_command_can_be_pasted_into_a_windows_terminal(monkeypatch, words, typed):
    with monkeypatch.context() as patch:
        patch.setattr(shell_words, "os", SimpleNamespace(name="nt"))
        assert shell_words.as_typed(words) == typed


def test_a_command_can_be_pasted_into_a_shell():
    words = ["napari-unet", "segment", "/data/my cells.tif", "--planes", "0:1"]
    assert shlex.split(shell_words.as_typed(words)) == words
