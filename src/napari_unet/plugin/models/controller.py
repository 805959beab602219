"""Controller of the Models dock: list, rename, delete, import and export models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.errors import UNetError
from ...core.network.model_card import BUNDLED, bundled_models, read_card
from ..dock.lifecycle import disconnect_from
from ..runtime.cli_process import Command
from ..runtime.worker_thread import WorkerThread
from .files import (  # fmt: skip
    Trashed,
    delete_model,
    duplicate_model,
    free_name,
    is_saved,
    models_folder,
    name_of,
    rename_model,
    restore_model,
    thumbnail,
    trashed_models,
)
from .registry import ModelRegistry
from .summary import facts, line, more_facts
from .view import ModelRow, ModelsView

_SHOWN_IN_TRASH = 15


class ModelsController:
    """What happens when something is clicked in a :class:`ModelsView`.

    Parameters
    ----------
    view : ModelsView
        The widgets.
    """

    def __init__(self, view: ModelsView) -> None:
        self.view = view
        self.registry = ModelRegistry.shared()
        self.command = Command()
        self._pictures = WorkerThread()
        self._copying = WorkerThread()
        self._trash: list[Trashed] = []
        view.chosen.connect(self._on_chosen)
        view.rename.connect(self._rename)
        view.duplicate.connect(self._duplicate)
        view.delete.connect(self._delete)
        view.restore.connect(self._restore)
        view.import_model.connect(self._import)
        view.export.connect(self._export)
        view.cancel.connect(self.command.cancel)
        self.registry.changed.connect(self.show)
        self.show()

    def close(self) -> None:
        """Stop running work and disconnect from the registry."""
        self.command.close()
        self._pictures.forget()
        self._copying.forget()
        disconnect_from(self.registry, "changed", self.show)

    def show(self, choose: str = "") -> None:
        """Show the models and the trash."""
        several = len(bundled_models()) > 1
        # "Whichever fits" is a choice and no model.
        entries = [entry for entry in self.registry.entries() if not (several and entry.path == BUNDLED)]
        self.view.show_models([ModelRow(e.path, e.label, line(e.path)) for e in entries], choose)
        self._trash = trashed_models()[:_SHOWN_IN_TRASH]
        self.view.show_trash([f"{item.name}, deleted {item.when:%Y-%m-%d %H:%M}" for item in self._trash])
        paths = [entry.path for entry in entries]
        self._pictures.run(lambda: {path: thumbnail(path) for path in paths}, self.view.show_pictures)

    def _on_chosen(self, path: str) -> None:
        words = (facts(path, self.view.name()), more_facts(path)) if path else ("", "")
        self.view.show_facts(*words, bool(path) and is_saved(path))

    def _try(self, action: Callable[[], Any]) -> Any:
        """Do something on disk; say what is wrong when it cannot be done, and return None."""
        self.view.messages.clear_messages()
        try:
            return action()
        except UNetError as error:
            self.view.messages.say(str(error), "error")
            return None

    def _changed(self, choose: str = "") -> None:
        """Tell the other docks, and show it."""
        self.registry.changed.emit()
        if choose:
            self.show(choose)

    # --- saved models ---------------------------------------------------------------------------

    def _rename(self, name: str) -> None:
        path = self.view.path()
        new = self._try(lambda: rename_model(path, name))
        if new is not None:
            self.registry.moved(path, new)
            self._changed(new)
            self.view.messages.say(f"It is called {name_of(Path(new))} now.", "done")

    def _duplicate(self) -> None:
        """Copy in a thread, as models may lie on a slow drive."""
        path = self.view.path()
        if not path:
            return
        self.view.messages.clear_messages()
        self.view.set_busy("copying")
        self._copying.run(lambda: duplicate_model(path), self._on_copied, self._on_failed)

    def _on_copied(self, path: str) -> None:
        self.view.set_busy("")
        self._changed(path)
        self.view.messages.say(f"Copied as {name_of(Path(path))}.", "done")

    def _delete(self) -> None:
        path = self.view.path()
        item = self._try(lambda: delete_model(path))
        if item is not None:
            if self.registry.just_trained == path:
                self.registry.just_trained = ""
            self.registry.moved(path, "")
            self._changed()
            self.view.messages.say(f"{item.name} is in the trash; Restore brings it back.", "done")

    def _restore(self, index: int) -> None:
        if index >= len(self._trash):
            return
        item = self._trash[index]
        path = self._try(lambda: restore_model(item))
        if path is not None:
            self._changed(path)
            name = name_of(Path(path))
            self.view.messages.say(f"{item.name} is back{'' if name == item.name else f' as {name}'}.", "done")

    # --- in and out -----------------------------------------------------------------------------

    def _import(self, path: str) -> None:
        """Copy a model into the models folder once it reproduces its test output in another process."""
        card = self._try(lambda: read_card(path))
        if card is None or self.command.running:
            return
        target = models_folder() / free_name(card.name or name_of(Path(path)))
        self.view.set_busy("importing and checking")
        self.command.run(
            ["export", path, str(target), "--format", "folder", "--json"],
            lambda said: self._on_imported(str(target), said), self._on_failed,
        )  # fmt: skip

    def _on_imported(self, path: str, said: str) -> None:
        self.view.set_busy("")
        self._changed(path)
        self.view.messages.say(f"Imported {Path(path).name}: {_checked(said)}.", "done")

    def _export(self, kind: str, path: str) -> None:
        """Write a model in another process, which reads it back and runs it."""
        model = self.view.path()
        if not model or self.command.running:
            return
        self.view.messages.clear_messages()
        words = ["export", model, path, "--format", kind, "--json", "--overwrite"]
        if self.view.author.text().strip():
            words += ["--author", self.view.author.text().strip()]
        words += ["--licence", self.view.licence.currentText().strip()]
        self.view.set_busy("exporting and checking")
        self.command.run(words, self._on_exported, self._on_failed)

    def _on_exported(self, said: str) -> None:
        self.view.set_busy("")
        found = json.loads(said.strip().splitlines()[-1])
        self.view.messages.say(
            f"Saved {Path(found['path']).name} ({found['bytes'] / 1e6:.1f} MB): {_checked(said)}.", "done"
        )

    def _on_failed(self, message: str) -> None:
        self.view.set_busy("")
        self.view.messages.say(message, "warning" if message == "Cancelled." else "error")


def _checked(said: str) -> str:
    """Return what an export has checked, in words."""
    return ", ".join(json.loads(said.strip().splitlines()[-1])["checked"])
