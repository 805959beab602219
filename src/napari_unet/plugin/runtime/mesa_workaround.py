"""Keeps Mesa's software renderer from ending napari with a segmentation fault.

On a machine without a graphics card (a virtual machine, a remote desktop, a test server) OpenGL is Mesa's `llvmpipe`
or `softpipe`. Qt draws a window in one OpenGL context and napari's canvas in another that shares its objects. When a
shader ends in the one, Mesa unbinds whatever shader is bound in the other at its next `glFlush`, and forgets to bind it
again (`free_zombie_shaders` in Mesa's `st_context.c`, seen in 22.3). The next picture then starts without a vertex
shader and crashes, unless it starts with another shader than the last one ended with. So with one visible layer napari
may crash when layers come and go, also without any plugin; with two things to draw, of any kind, it does not.
"""

from __future__ import annotations

import weakref
from typing import Any

from qtpy.QtWidgets import QWidget

_SOFTWARE = ("llvmpipe", "softpipe")
_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def steady(window: QWidget) -> None:
    """Have every canvas of a window draw two invisible lines, if it is drawn by Mesa's software renderer.

    Parameters
    ----------
    window : QWidget
        A viewer's window. Asked again it does nothing, nor where graphics are drawn by hardware.
    """
    for child in window.findChildren(QWidget):
        # Set by vispy on the widget that it draws in.
        canvas = getattr(child, "_vispy_canvas", None)
        if canvas is not None and canvas not in _watched:
            _watched.add(canvas)
            # Asked when there is something to draw: only then is the canvas' OpenGL context the current one.
            canvas.events.draw.connect(_on_first_draw)


def _on_first_draw(event: Any) -> None:
    canvas = event.source
    canvas.events.draw.disconnect(_on_first_draw)
    if is_software(renderer()):
        add_invisible(canvas)


def renderer() -> str:
    """Return the name of what draws in the current OpenGL context."""
    from vispy.gloo import gl

    return str(gl.glGetParameter(gl.GL_RENDERER))


def is_software(name: str) -> bool:
    """Return whether this is one of Mesa's software renderers."""
    return any(word in name.lower() for word in _SOFTWARE)


def add_invisible(canvas: Any) -> list[Any]:
    """Add two lines without colour to all that a vispy ``SceneCanvas`` draws, and return them.

    Two, each with a shader of its own: so no picture starts with the shader that the last one ended with, even when
    nothing else is drawn.
    """
    from vispy.scene.visuals import Line

    lines = []
    for _ in range(2):
        line = Line([[0, 0], [1, 0]], color=(0, 0, 0, 0), method="gl", parent=canvas.scene)
        line.interactive = False
        lines.append(line)
    return lines
