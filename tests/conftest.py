"""What every test shares: a home folder of its own, no widget and no process left behind."""

import gc
import os

import pytest

from screens import Screens

SCREENS = Screens()

# Before torch and BLAS are loaded, which read it once. Each process of pytest-xdist would start a thread per core.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_configure(config):
    """In a process of pytest-xdist, take the screen that is for it."""
    display = getattr(config, "workerinput", {}).get("display")
    if display:
        os.environ["DISPLAY"] = display


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Open a screen for another process of pytest-xdist, if this run has a virtual one."""
    if os.environ.get("QT_QPA_PLATFORM") == "xcb":
        node.workerinput["display"] = SCREENS.open()


def pytest_unconfigure():
    SCREENS.close()


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Keep models, runs and logs of a test out of the user's folder."""
    monkeypatch.setenv("NAPARI_UNET_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def no_leaked_widgets(request):
    """Fail the test that leaves a widget of this package alive, or a new top level one."""
    if "qapp" not in request.fixturenames and "qtbot" not in request.fixturenames:
        yield
        return
    from qtpy.QtWidgets import QApplication

    # The widgets themselves and not their ids: Qt's own have no lasting Python object unless one is held.
    before = _widgets(QApplication)
    yield
    leaked = _leaked(QApplication, before)
    if leaked:
        # napari's viewer is freed by the garbage collector; whatever is left then is ours.
        gc.collect()
        leaked = _leaked(QApplication, before)
    failed = getattr(request.node, "rep_call", None) is not None and request.node.rep_call.failed
    if leaked and not failed:
        pytest.fail(f"leaked widgets: {', '.join(sorted(leaked))}")


def _widgets(application):
    return application.allWidgets() if application.instance() is not None else []


def _leaked(application, before):
    """Return the names of widgets that should be gone, after Qt has deleted what it was asked to delete."""
    from qtpy.QtCore import QCoreApplication, QEvent

    for _ in range(3):
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QCoreApplication.processEvents()
    now, known = _widgets(application), set(map(id, before))
    top = set(map(id, application.topLevelWidgets()))
    return [
        f"{type(widget).__module__}.{type(widget).__name__}"
        for widget in now
        if id(widget) not in known and (type(widget).__module__.startswith("napari_unet") or id(widget) in top)
    ]
