"""What the package is called where it is installed, and how to install what it lacks. Needs no torch.

The import is ``napari_unet`` and the command ``napari-unet``. The distribution has a name of its own: on PyPI,
``napari-unet`` is another team's plugin.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec

from .errors import MissingLibraryError

DISTRIBUTION = "napari-interactive-unet"
"""The name that pip knows, under which the installed version is found."""
PLUGIN = "napari-interactive-unet"
"""The plugin's id in napari. npe2 wants it to be the distribution's name; commands in ``napari.yaml`` begin with it."""
COMMAND = "napari-unet"
"""The program in a terminal."""
OTHER = "napari-unet"
"""Another team's plugin on PyPI, with the same import name."""
INSTALL = ("-m", "pip", "install")
"""What Python is told, before what to install."""


def install_extra(extra: str) -> str:
    """Return the command that installs the packages of an extra.

    Pip takes the distribution itself, and what the extra needs, from what is installed already.

    Parameters
    ----------
    extra : str
        As in ``pyproject.toml``.

    Raises
    ------
    ValueError
        When the installed distribution has no such extra.
    """
    metadata = distribution(DISTRIBUTION).metadata
    if extra not in metadata.get_all("Provides-Extra", []):
        raise ValueError(f"{DISTRIBUTION} has no extra {extra!r}.")
    return _typed(f"{metadata['Name']}[{extra}]")


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Check that the modules of an extra can be imported.

    Parameters
    ----------
    extra : str
        As in ``pyproject.toml``.
    purpose : str
        What needs it, in the plural, for the message.
    *modules : str
        Top-level modules.

    Raises
    ------
    MissingLibraryError
        With the command that installs them.
    """
    if not all(map(find_spec, modules)):
        raise MissingLibraryError(f"{purpose} need more libraries: {install_extra(extra)}")


def install_version(name: str, number: str) -> str:
    """Return the command that installs a version of a package on another computer."""
    return _typed(requirement(name, number))


def requirement(name: str, number: str) -> str:
    """Return what pip is to install for a version of a package: of this one the wheel, as no index has it."""
    return f"{name.replace('-', '_')}-{number}-py3-none-any.whl" if name == DISTRIBUTION else f"{name}=={number}"


def _typed(needed: str) -> str:
    """Return the command that installs what is needed, quoted for any shell."""
    return f'python {" ".join(INSTALL)} "{needed}"'


def clash() -> str:
    """Return a warning in one line when the other team's plugin is installed here too, otherwise an empty text."""
    try:
        found = version(OTHER)
    except PackageNotFoundError:
        return ""
    return (
        f"{OTHER} {found} is installed in this environment too. It is another team's plugin with the same import name, "
        f"so each overwrites files of the other. Uninstall both, and install only {DISTRIBUTION} again."
    )
