"""What a user may do, as small functions of a desk and of numbers; each numbered choice fits however much there is.

The numbers of an action are drawn before the walk begins and know nothing of the state, so that one seed gives one list
of actions, and a shortened list means the same.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from discs import discs, stack
from napari.layers import Labels
from napari.layers import _layer_actions as layer_menu
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QListWidget,
    QTabWidget,
    QTreeWidget,
)  # fmt: skip

from napari_unet.core.distribution import PLUGIN
from napari_unet.plugin.layers.preview import camera_of

from .desk import DOCKS, MEASURE, MODELS, NAMES, PROOFREAD, SEGMENT, TRAIN, Desk, controls, run_loop

NOTHING, PAINT, PROOF, ALL = "nothing", "paint", "proof", "all"
"""Whose labels an action may change: nobody's, those worked on in the picture, those proofread, or any."""

Draw = Callable[[random.Random], Any]
_MOST_LAYERS = 11
_LONGEST_WAIT = 20.0


@dataclass(frozen=True)
class Kind:
    """One kind of action.

    Attributes
    ----------
    do : callable
        Takes the desk and what was drawn; returns False when a user could not do it now.
    weight : float
        How often it is drawn, relative to the others.
    draws : dict
        By argument: what draws it.
    edits : str
        Whose labels it may change.
    removes : bool
        Whether it may take layers away.
    """

    do: Callable[..., Any]
    weight: float
    draws: dict[str, Draw]
    edits: str = NOTHING
    removes: bool = False


KINDS: dict[str, Kind] = {}


def action(weight: float, edits: str = NOTHING, removes: bool = False, **draws: Draw) -> Callable[[Any], Any]:
    """Add a function to the vocabulary."""

    def add(function: Any) -> Any:
        KINDS[function.__name__] = Kind(function, weight, draws, edits, removes)
        return function

    return add


def number(rng: random.Random) -> int:
    """Draw a number that becomes an index."""
    return rng.randrange(840)


def share(rng: random.Random) -> float:
    """Draw a share."""
    return round(rng.random(), 3)


def near(rng: random.Random) -> float:
    """Draw a share around the middle, where the picture is."""
    return round(rng.triangular(0.05, 0.95, 0.5), 3)


def one_of(*choices: Any) -> Draw:
    """Return what draws one of these."""
    return lambda rng: rng.choice(choices)


# --- layers -----------------------------------------------------------------------------------------------


def _image(kind: str) -> tuple[Any, dict[str, Any]]:
    """Return a small picture of a kind, and how it is added."""
    plane = discs((96, 128), seed=1)[0]
    if kind == "stack":
        return stack(4, (64, 72)), {"axis_labels": ("z", "y", "x"), "scale": (3, 1, 1)}
    if kind == "time and depth":
        return np.stack([stack(2, (48, 48))] * 3), {"axis_labels": ("t", "z", "y", "x")}
    if kind == "colour":
        return np.stack([plane / 300] * 3, axis=-1), {"rgb": True}
    if kind == "lazy":
        import dask.array

        return dask.array.from_array(stack(3, (96, 128)), chunks=(1, 96, 128)), {}
    if kind == "levels":
        return [plane, plane[::2, ::2]], {"multiscale": True}
    if kind == "turned":
        return plane, {"rotate": 30, "translate": (40, -20), "scale": (0.5, 0.5)}
    if kind == "flat":
        return np.full((70, 90), 7.0), {}
    if kind == "not a number":
        return np.where(plane > 220, np.nan, plane), {}
    if kind == "tiny":
        return plane[:5, :4], {}
    return plane.astype(np.uint16), {}


_IMAGES = ("plane", "plane", "stack", "stack", "time and depth", "colour", "lazy", "levels", "turned", "flat",
           "not a number", "tiny")  # fmt: skip


def _room(desk: Desk) -> bool:
    return len(desk.viewer.layers) < _MOST_LAYERS


def _layer(desk: Desk, index: int) -> Any:
    layers = desk.viewer.layers
    return layers[index % len(layers)] if len(layers) else None


@action(3, kind=one_of(*_IMAGES))
def add_image(desk: Desk, kind: str) -> Any:
    """Open a picture."""
    if not _room(desk):
        return False
    data, how = _image(kind)
    return desk.viewer.add_image(data, name=kind, **how)


@action(0.4, key=one_of("nuclei", "phase", "stack"))
def open_sample(desk: Desk, key: str) -> Any:
    """Open one of the samples."""
    return desk.viewer.open_sample(PLUGIN, key) if _room(desk) else False


@action(2, kind=one_of("mask", "empty", "other size", "large numbers"), index=number)
def add_labels(desk: Desk, kind: str, index: int) -> Any:
    """Open labels of some picture, or of none."""
    below = _layer(desk, index)
    shape = tuple(below.data.shape[: below.ndim]) if hasattr(getattr(below, "data", None), "shape") else (96, 128)
    shape = (50, 60) if kind == "other size" or len(shape) < 2 else shape
    if not _room(desk) or np.prod(shape, dtype=float) > 2e6:
        return False
    labels = np.zeros(shape, np.int32)
    if kind in ("mask", "large numbers"):
        labels[...] = discs(shape[-2:], seed=index % 5)[1] * (1 if kind == "mask" else 40_000)
    return desk.viewer.add_labels(labels, name=f"{kind} {index % 3}")


@action(0.5, what=one_of("shapes", "points", "surface"))
def add_other(desk: Desk, what: str) -> Any:
    """Add a layer that is nobody's business."""
    if not _room(desk):
        return False
    if what == "surface":
        return desk.viewer.add_surface((np.array([[0.0, 0], [0, 9], [9, 0]]), np.array([[0, 1, 2]])))
    return desk.viewer.add_points([[3, 4]]) if what == "points" else desk.viewer.add_shapes([[[1, 1], [5, 8]]])


@action(2, index=number, name=one_of(*NAMES))
def rename_layer(desk: Desk, index: int, name: str) -> Any:
    """Give a layer another name."""
    layer = _layer(desk, index)
    if layer is None:
        return False
    layer.name = name or "nameless"
    return True


@action(2, removes=True, index=number)
def delete_layer(desk: Desk, index: int) -> Any:
    """Delete a layer."""
    layer = _layer(desk, index)
    return desk.viewer.layers.remove(layer) if layer is not None else False


@action(0.15, removes=True)
def delete_all_layers(desk: Desk) -> None:
    """Delete every layer."""
    desk.viewer.layers.clear()


@action(0.5, removes=True)
def delete_selected_layers(desk: Desk) -> None:
    """Delete what is selected, as the button with the bin does."""
    desk.viewer.layers.remove_selected()


_MENU: dict[str, Callable[[Any], Any]] = {
    "duplicate": layer_menu._duplicate_layer,
    "to labels": layer_menu._convert_to_labels,
    "to image": layer_menu._convert_to_image,
    "to int64": lambda layers: layer_menu._convert_dtype(layers, mode="int64"),
    "project": layer_menu._project,
    "split": layer_menu._split_stack,
    "merge": layer_menu._merge_stack,
    "link": lambda layers: layers.link_layers(layers.selection),
}


@action(1.5, edits=ALL, removes=True, index=number, entry=one_of("duplicate", *_MENU))
def choose_in_layer_menu(desk: Desk, index: int, entry: str) -> Any:
    """Right-click a layer, or the selected ones, and choose an entry of napari's menu that suits them."""
    layer, layers = _layer(desk, index), desk.viewer.layers
    if layer is None or not _room(desk):
        return False
    one, picture = not getattr(layer, "multiscale", False), layer._type_string == "image"
    suits = {
        "to labels": one and picture and not layer.rgb, "to image": one and is_labels(layer),
        "to int64": one and is_labels(layer), "project": one and picture and layer.ndim > 2,
        "split": one and picture and layer.ndim > 2, "merge": len(layers.selection) > 1,
    }  # fmt: skip
    if entry != "link" or layer not in layers.selection:
        layers.selection = {layer}
    return _MENU[entry](layers) if suits.get(entry, True) else False


@action(1.5, removes=True, role=one_of("annotation", "trained on", "segmented", "result", "proofread", "measured"))
def delete_what_is_worked_on(desk: Desk, role: str) -> Any:
    """Delete the very layer that a dock works on."""
    train, segment, proofread, measure = (desk.dock(name) for name in (TRAIN, SEGMENT, PROOFREAD, MEASURE))
    found = {
        "annotation": lambda: train.view.annotation.layer(),
        "trained on": lambda: train.view.images.image.layer(),
        "segmented": lambda: segment.view.images.image.layer(),
        "result": lambda: segment.controller.result.layer() if segment.controller.result else None,
        "proofread": lambda: proofread.view.result.layer(),
        "measured": lambda: measure.view.cells.layer(),
    }
    needed = {"annotation": train, "trained on": train, "segmented": segment, "result": segment}
    owner = needed.get(role, proofread if role == "proofread" else measure)
    layer = found[role]() if owner is not None else None
    return desk.viewer.layers.remove(layer) if layer is not None and layer in desk.viewer.layers else False


@action(1, dock=one_of(TRAIN, SEGMENT, MEASURE), axis=number, letter=number)
def say_what_an_axis_is(desk: Desk, dock: str, axis: int, letter: int) -> Any:
    """Say what an axis is: time, depth, channel or position."""
    opened = desk.dock(dock)
    boxes = list(opened.view.images.axes._boxes.values()) if opened is not None else []
    enabled = [box for box in boxes if box.isEnabled()]
    return enabled[axis % len(enabled)].setCurrentIndex(letter % 4) if enabled else False


@action(2, index=number, to=number)
def move_layer(desk: Desk, index: int, to: int) -> Any:
    """Drag a layer to another place of the list."""
    count = len(desk.viewer.layers)
    return desk.viewer.layers.move(index % count, to % count) if count else False


@action(2, index=number)
def hide_layer(desk: Desk, index: int) -> Any:
    """Hide a layer, or show it."""
    layer = _layer(desk, index)
    if layer is None:
        return False
    layer.visible = not layer.visible
    return True


@action(4, index=number)
def select_layer(desk: Desk, index: int) -> Any:
    """Click a layer in the list."""
    layer = _layer(desk, index)
    if layer is None:
        return False
    desk.viewer.layers.selection.active = layer
    return True


@action(0.5)
def select_all_layers(desk: Desk) -> None:
    """Select all layers."""
    desk.viewer.layers.select_all()


@action(0.5, index=number)
def replace_picture(desk: Desk, index: int) -> Any:
    """Give an image layer other data of another size, as a script or another plugin does."""
    layer = _layer(desk, index)
    if layer is None or layer._type_string != "image" or layer.multiscale or layer.rgb:
        return False
    layer.data = np.asarray(layer.data)[..., : max(4, layer.data.shape[-1] - 8)]
    return True


@action(0.5, index=number, factor=one_of(0.5, 2.0, 3.0))
def rescale_layer(desk: Desk, index: int, factor: float) -> Any:
    """Set another scale."""
    layer = _layer(desk, index)
    if layer is None:
        return False
    layer.scale = np.asarray(layer.scale) * factor
    return True


@action(0.5, index=number)
def lock_layer(desk: Desk, index: int) -> Any:
    """Lock a layer, or unlock it."""
    layer = _layer(desk, index)
    if layer is None:
        return False
    layer.editable = not layer.editable
    return True


# --- what is looked at ------------------------------------------------------------------------------------


@action(4, axis=number, to=share)
def move_slider(desk: Desk, axis: int, to: float) -> Any:
    """Move a slider below the picture."""
    dims = desk.viewer.dims
    sliders = [i for i in range(dims.ndim) if i not in dims.displayed]
    if not sliders:
        return False
    at = sliders[axis % len(sliders)]
    dims.set_current_step(at, int(to * dims.nsteps[at]))
    return True


@action(1)
def toggle_3d(desk: Desk) -> None:
    """Change between 2D and 3D."""
    desk.viewer.dims.ndisplay = 5 - desk.viewer.dims.ndisplay


@action(0.5)
def roll_axes(desk: Desk) -> None:
    """Show other axes."""
    desk.viewer.dims.roll()


@action(0.3)
def transpose_axes(desk: Desk) -> None:
    """Swap the axes on screen."""
    desk.viewer.dims.transpose()


@action(1)
def reset_view(desk: Desk) -> None:
    """Fit the picture into the window."""
    desk.viewer.reset_view()


@action(1, factor=one_of(0.3, 0.8, 1.5, 4.0))
def zoom(desk: Desk, factor: float) -> None:
    """Zoom."""
    camera_of(desk.viewer).zoom *= factor


@action(0.3, theme=one_of("dark", "light"))
def change_theme(desk: Desk, theme: str) -> None:
    """Change the theme."""
    desk.viewer.theme = theme


@action(0.3, width=one_of(700, 1000, 1280), height=one_of(500, 700, 800))
def resize_window(desk: Desk, width: int, height: int) -> None:
    """Resize the window."""
    desk.viewer.window._qt_window.resize(width, height)


# --- the picture ------------------------------------------------------------------------------------------


@action(10, edits=PAINT, x0=near, y0=near, x1=near, y1=near)
def stroke(desk: Desk, x0: float, y0: float, x1: float, y1: float) -> None:
    """Drag over the picture: a stroke, a box, a line, a pan, whatever the layer's mode makes of it."""
    points = [(x0 + (x1 - x0) * i / 5, y0 + (y1 - y0) * i / 5) for i in range(6)]
    desk.drag(points)


@action(6, edits=PAINT, x=near, y=near)
def click_picture(desk: Desk, x: float, y: float) -> None:
    """Click into the picture."""
    desk.drag([(x, y)])


@action(3, edits=PAINT, x=near, y=near)
def hover(desk: Desk, x: float, y: float) -> None:
    """Move the mouse."""
    desk.hover(x, y)


@action(1, x=near, y=near, turn=one_of(-120, 120))
def turn_wheel(desk: Desk, x: float, y: float, turn: int) -> None:
    """Zoom with the wheel."""
    desk.wheel(x, y, turn)


_KEYS = (
    *"NNNGGGQQKKKHWAAAMMSSLPPRRFFDDB.,", *"1234567", "Escape", "Enter", "Control+Z", "Control+Z", "Control+Z",
    "Control+Shift+Z", "Shift+Left", "Shift+Right", "Shift+Up", "Shift+Down", "Space", "Left", "Right",
)  # fmt: skip


@action(18, edits=PAINT, key=one_of(*_KEYS))
def press_key(desk: Desk, key: str) -> None:
    """Press a key over the picture."""
    desk.key(key)


@action(4, edits=PAINT, seed=number)
def annotate(desk: Desk, seed: int) -> Any:
    """Make an annotation if there is none, and paint some background and two cells as with the brush."""
    dock = desk.dock(TRAIN)
    if dock is None or dock.controller._choice.image() is None:
        return False
    if dock.view.annotation.layer() is None:
        dock.view.new_button.click()
    layer = dock.view.annotation.layer()
    if layer is None or layer.ndim != dock.controller._choice.image().ndim or not layer.editable:
        return False
    rng = np.random.default_rng(seed)
    size = np.asarray(layer.data.shape)
    for label in (1, 1, *rng.integers(2, 12, 3)):
        point = np.asarray(layer.world_to_data(desk.viewer.dims.point))
        shown = [axis - (desk.viewer.dims.ndim - layer.ndim) for axis in desk.viewer.dims.displayed[-2:]]
        for axis in shown:
            point[axis] = rng.integers(0, size[axis])
        layer.paint(tuple(np.clip(np.round(point), 0, size - 1)), int(label))
    return True


# --- docks ------------------------------------------------------------------------------------------------


@action(1, dock=one_of(*DOCKS))
def open_dock(desk: Desk, dock: str) -> None:
    """Open a dock by the menu."""
    desk.open_dock(dock)


@action(0.7, dock=one_of(*DOCKS), button=one_of("close_button", "hide_button"))
def close_dock(desk: Desk, dock: str, button: str) -> Any:
    """Close or hide a dock by its title bar."""
    frame = desk.frame(dock)
    if frame is None:
        return False
    made = getattr(frame.titleBarWidget(), button, None)
    return desk.click(made) if made is not None else False


@action(2)
def set_tiny_training(desk: Desk) -> Any:
    """Set training to seconds."""
    return desk.make_tiny() if desk.dock(TRAIN) is not None else False


def _press(name: str, path: str) -> Callable[[Desk, int], Any]:
    def press(desk: Desk, answer: int) -> Any:
        found = desk.control(name, path)
        return desk.click(found, answer) if found is not None else False

    return press


MAIN = {
    "train": (4, TRAIN, "train_button"),
    "carry_on": (2, TRAIN, "continue_button"),
    "discard": (2, TRAIN, "discard_button"),
    "check_labels": (2, TRAIN, "check.check_button"),
    "where_next": (2, TRAIN, "where_next.button"),
    "save_model": (2, TRAIN, "save_button"),
    "segment": (6, SEGMENT, "run_button"),
    "measure": (2, MEASURE, "measure_button"),
    "compare": (2, MEASURE, "compare_button"),
    "duplicate_model": (1, MODELS, "duplicate_button"),
}
"""Buttons that are pressed more often than the others."""
for _name, (_weight, _dock, _path) in MAIN.items():
    KINDS[_name] = Kind(_press(_dock, _path), _weight, {"answer": number})


def any_control(dock: str, path: str, control: Any) -> Kind:
    """Return the kind of action that operates a control of a dock in whatever way it can be operated."""
    edits = PROOF if dock == PROOFREAD else NOTHING

    def operate(desk: Desk, value: int) -> Any:
        found = desk.control(dock, path)
        return _operate(desk, found, value) if found is not None else False

    return Kind(operate, 0.0, {"value": number}, edits)


def _operate(desk: Desk, control: Any, value: int) -> Any:
    """Operate a control; the value says in which way."""
    if isinstance(control, QAbstractButton):
        return desk.click(control, value)
    if isinstance(control, QComboBox):
        return control.setCurrentIndex(value % control.count()) if control.count() else False
    if isinstance(control, QAbstractSpinBox):
        return control.stepBy(value % 7 - 3)
    if isinstance(control, QAbstractSlider):
        return control.setValue(control.minimum() + value * (control.maximum() - control.minimum()) // 840)
    if isinstance(control, QTabWidget):
        return control.setCurrentIndex(value % control.count())
    if isinstance(control, QLineEdit):
        return _type(desk, control, NAMES[value % len(NAMES)])
    return _operate_tree(control, value) if isinstance(control, QTreeWidget) else _operate_list(control, value)


def _type(desk: Desk, control: QLineEdit, words: str) -> None:
    """Type a text and press Enter; where a folder is asked for, one below the desk's own."""
    is_folder = type(control.parent().parent()).__name__ == "FolderRow"
    control.setText(str(desk.folder / words.strip("./ ")) if is_folder else words)
    QTest.keyClick(control, Qt.Key.Key_Return)


def _operate_tree(control: QTreeWidget, value: int) -> Any:
    """Double-click a row."""
    if not control.topLevelItemCount():
        return False
    at = control.visualItemRect(control.topLevelItem(value % control.topLevelItemCount())).center()
    QTest.mouseClick(control.viewport(), Qt.MouseButton.LeftButton, pos=at)
    return QTest.mouseDClick(control.viewport(), Qt.MouseButton.LeftButton, pos=at)


def _operate_list(control: QListWidget, value: int) -> Any:
    """Click a row, or tick it."""
    if not control.count():
        return False
    item = control.item(value % control.count())
    if item.flags() & Qt.ItemFlag.ItemIsUserCheckable and value % 2:
        ticked = item.checkState() == Qt.CheckState.Checked
        return item.setCheckState(Qt.CheckState.Unchecked if ticked else Qt.CheckState.Checked)
    QTest.mouseClick(
        control.viewport(), Qt.MouseButton.LeftButton, pos=control.visualItemRect(item).center()
    )  # fmt: skip
    return True


def add_controls(desk: Desk, weight: float = 60.0) -> None:
    """Add everything in the docks that can be operated; together they are drawn as often as ``weight`` says."""
    found = [(name, path, control) for name in DOCKS for path, control in controls(desk.dock(name).view)]
    for name, path, control in found:
        key = f"{DOCKS[name].removesuffix('Dock').lower()}:{path}"
        known = any_control(name, path, control)
        KINDS[key] = Kind(known.do, weight / len(found), known.draws, known.edits)


# --- accidents, time, the end -------------------------------------------------------------------------------


@action(0.5)
def kill_engine(desk: Desk) -> bool:
    """The backend dies."""
    return desk.kill_engine()


@action(8, seconds=one_of(0.05, 0.1, 0.3, 0.6, 2.0))
def wait(desk: Desk, seconds: float) -> None:
    """Do nothing; the walk waits after it."""


@action(2)
def wait_until_idle(desk: Desk) -> bool:
    """Wait until nothing is computed any more, but not for ever."""
    end = time.monotonic() + _LONGEST_WAIT
    views = [desk.dock(name).view for name in (TRAIN, SEGMENT, MEASURE) if desk.dock(name) is not None]
    while any(isalive(view) and view._busy for view in views) and time.monotonic() < end:
        run_loop(30)
    return True


REOPEN = "close_and_reopen_viewer"
"""Done by the walk itself, as it has to look for what was left behind."""
KINDS[REOPEN] = Kind(lambda desk: None, 0.15, {}, ALL, True)


_MOODS = (0.0, 0.3, 1.0, 1.0, 3.0)
"""How much oftener a walk does one kind of action than another: walks that do less of some things get further."""


def draw(rng: random.Random, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return so many actions, each a name and its arguments; they begin with something to work on."""
    first = [("add_image", {"kind": "plane"}), ("annotate", {"seed": 1})]
    names = list(KINDS)
    weights = [KINDS[name].weight * rng.choice(_MOODS) for name in names]
    chosen = rng.choices(names, weights, k=max(0, count - len(first)))
    return (first + [(name, {key: made(rng) for key, made in KINDS[name].draws.items()}) for name in chosen])[:count]


def is_labels(layer: Any) -> bool:
    """Return whether a layer is of labels."""
    return isinstance(layer, Labels)
