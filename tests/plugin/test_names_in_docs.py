"""What the pages for users call something is what the program calls it: menus and buttons."""

import re
from pathlib import Path

import napari.settings
import pytest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QTabWidget

from napari_unet.core.evaluation.annotation_checks import Finding

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
DOCKS = ("Annotate and train", "Segment", "Segment many files", "Proofread", "Measure and compare", "Models")
OF_BUTTONS = ("tutorial", "batch", "check-labels", "measure", "models", "proofread", "repeat", "sparse-painting")
EMPHASIS = {"A new segmentation", "The next training", "Unknown", "Cell"}
"""Bold words that are no names of anything on screen."""


def prose(page):
    """Return a page without code, in one line."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(text.split())


def menu_paths():
    """Return the ways through menus that the pages name."""
    found = {path for page in PAGES for path in re.findall(r"(?<!\*)\*([^*]+ [>→] [^*]+)\*", prose(page))}
    return sorted(found)


def bold_names():
    """Return the names of buttons and choices that the pages name; single letters are keys."""
    pages = [page for page in PAGES if page.stem in OF_BUTTONS]
    found = {name for page in pages for name in re.findall(r"\*\*([^*]+)\*\*", prose(page)) if len(name) > 1}
    return sorted(found - EMPHASIS)


def without_key(text):
    """Return the words of a button or heading without its key or number: Next cell (N), 1  Image."""
    plain = re.sub(r"<[^>]*>", "", text).replace("&", "")
    return re.sub(r" \([^()]*\)$|^\d+ +", "", plain)


def shown_names(widget):
    """Return the words on everything in a dock."""
    words = [w.text() for kind in (QAbstractButton, QLabel) for w in widget.findChildren(kind)]
    words += [c.itemText(i) for c in widget.findChildren(QComboBox) for i in range(c.count())]
    words += [t.tabText(i) for t in widget.findChildren(QTabWidget) for i in range(t.count())]
    return {without_key(text) for text in words}


def below(menu, path):
    """Return the words of a menu that are not found along a path, or None."""
    for name in path:
        if menu is None:
            return name
        menu.aboutToShow.emit()
        actions = {without_key(action.text()): action for action in menu.actions()}
        if name not in actions:
            return f"{name}, but there are {', '.join(filter(None, actions))}"
        menu = actions[name].menu()
    return None


def test_every_way_through_menus_leads_somewhere(docks):
    viewer, _ = docks("Models", show=True)
    bar = {without_key(action.text()): action.menu() for action in viewer.window._qt_window.menuBar().actions()}
    paths = [re.split(" [>→] ", path) for path in menu_paths()]
    assert len(paths) > 6
    missing = [below(bar[first], rest) for first, *rest in paths if rest[0] != "Preferences"]
    assert [name for name in missing if name] == []


@pytest.mark.skipif(not hasattr(napari.settings, "get_plugin_settings"), reason="needs napari 0.9 or later")
def test_the_page_of_preferences_has_the_name_that_is_written(docks):
    viewer, _ = docks("Models", show=True)
    dialog = viewer.window._open_preferences_dialog()
    names = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    dialog.reject()
    assert [path for path in menu_paths() if "Preferences" in path] == [f"File > Preferences > {names[-1]}"]


def test_every_button_that_is_named_exists(docks):
    viewer, *opened = docks(*DOCKS, show=True)
    train = opened[0].view
    shown = set().union(*(shown_names(dock.view) for dock in opened))
    train.set_busy(True)
    train.check.show_findings([Finding("size", "", diameter=24.0)], [""])
    shown |= {text.replace("24", "...") for text in shown_names(train)}
    train.set_busy(False)
    names = bold_names()
    assert len(names) > 20
    assert [name for name in names if name not in shown] == []
