"""Sphinx: ``tox -e docs``. The tables of settings are written from ``core/settings.py`` at each build."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from settings_tables import write_tables

project = "napari-interactive-unet"
author = "napari-interactive-unet developers"
copyright = "2026, napari-interactive-unet developers"
release = version = installed_version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated"]

html_theme = "furo"
html_title = project
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False

write_tables(Path(__file__).parent / "_generated")
