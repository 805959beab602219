"""What is remembered of each dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UNetError
from ..core.settings import NetworkSettings, PredictionSettings, TrainingSettings, with_values
from .dock.follow_preferences import COMPUTING
from .dock.state import StateEntry
from .dock.state_kinds import (
    check_settings,
    in_words,
    is_preferred,
    of_box,
    of_combo,
    of_fold,
    of_form,
    of_images,
    of_index,
    of_layer,
    of_text,
    without_computing,
)
from .models.selector import OF_MODEL, ModelChoice
from .settings.preferences import current

if TYPE_CHECKING:
    from .measure.controller import MeasureController
    from .models.view import ModelsView
    from .proofread.view import ProofreadView
    from .segment.batch_controller import BatchController
    from .segment.batch_view import BatchView
    from .segment.controller import SegmentController
    from .segment.view import SegmentView
    from .train.annotation_controller import Annotating
    from .train.controller import TrainController


def of_training(controller: TrainController) -> list[StateEntry]:
    """Return what is chosen in the Annotate and train dock."""
    view = controller.view
    return [
        *of_images(view.images),
        of_layer("annotation", view.annotation),
        _of_earlier(controller.annotating),
        of_combo("start", view.start),
        of_form("simple", view.simple, TrainingSettings()),
        of_form("advanced", view.advanced, TrainingSettings()),
        of_form("network", view.network, NetworkSettings()),
        of_box("live", view.live_box),
        of_box("preview", view.preview_box),
        of_index("where", view.where_next.extent),
        of_index("tab", view.tabs),
        of_fold("unfolded", view.fold),
        of_text("name", view.name_edit, lasting=False),
    ]


def _of_earlier(annotating: Annotating) -> StateEntry:
    """Return which earlier trainings take part, for this viewer only."""

    def get() -> list[tuple[str, bool]]:
        return [(str(run.folder), run.on) for run in annotating.earlier]

    def show(known: list[tuple[str, bool]]) -> None:
        for folder, on in known:
            if Path(folder).is_dir():
                annotating.add_earlier(folder, on)

    return StateEntry("earlier", get, show, (annotating.touched,), lasting=False)


def of_segmenting(controller: SegmentController) -> list[StateEntry]:
    """Return what is chosen in the Segment dock."""
    view = controller.view
    return [
        *of_images(view.images),
        _of_model(controller.models, view),
        of_combo("planes", view.extent),
        _of_prediction(controller.models, view),
        of_fold("unfolded", view.fold),
        StateEntry("place", view.place.place, lambda place: view.place.choose(str(place)), (view.place.place_changed,)),
    ]


def of_batch(controller: BatchController) -> list[StateEntry]:
    """Return what is chosen in the dock for many files; which files is for this viewer only."""
    view = controller.view
    return [
        _of_model(controller.models, view),
        _of_prediction(controller.models, view),
        of_combo("axes", view.axes, lasting=False),
        of_combo("ending", view.ending),
        of_fold("unfolded", view.fold),
    ]


def _of_model(models: ModelChoice, view: SegmentView | BatchView) -> StateEntry:
    """Return the model to segment with, unless another one was trained since."""
    return StateEntry("model", models.chosen, models.choose_again, (view.model.currentIndexChanged,))


def _of_prediction(models: ModelChoice, view: SegmentView | BatchView) -> StateEntry:
    """Return the settings, with the model that they are for: another one comes with others."""
    start = PredictionSettings()

    def get() -> dict[str, Any]:
        values = {n: v for n, v in view.values().items() if not is_preferred(n, v)}
        return {"model": view.model.currentData(), "values": values}

    def show(known: Any) -> None:
        values = check_settings(start, known["values"])
        if not models.registry.is_same(str(known["model"]), view.model.currentData()):
            values = {n: v for n, v in values.items() if n not in OF_MODEL}
        view.show_values(values)

    def own_values() -> dict[str, Any]:
        try:
            card = models.card_values(view.model.currentData())
        except UNetError:
            # A model that cannot be read has nothing to say here; choosing it says what is wrong.
            card = {}
        own = {n: getattr(with_values(start, card), n) for n in view.values()}
        return {**own, **{n: getattr(current(), n) for n in COMPUTING}}

    def differing() -> list[str]:
        own = own_values()
        return in_words(start, {n: v for n, v in view.values().items() if v != own[n]})

    signals = (view.threshold.valueChanged, view.smallest.value_changed, view.what.currentIndexChanged,
               view.advanced.changed, view.model.currentIndexChanged)  # fmt: skip
    return StateEntry(
        "settings", get, show, signals, default=lambda: view.show_values(own_values()), differing=differing,
        carried=lambda known: {**known, "values": without_computing(known["values"])},
    )  # fmt: skip


def of_proofreading(view: ProofreadView) -> list[StateEntry]:
    """Return what is chosen in the Proofread dock; whether it teaches is known with each layer."""
    return [of_layer("result", view.result)]


def of_measuring(controller: MeasureController) -> list[StateEntry]:
    """Return what is chosen in the Measure dock."""
    view = controller.view
    return [
        of_layer("cells", view.cells),
        *of_images(view.images),
        of_layer("truth", view.truth),
        of_combo("truth holds", view.extent, lasting=False),
    ]


def of_models(view: ModelsView) -> list[StateEntry]:
    """Return what is chosen in the Models dock."""
    chosen = StateEntry("model", view.path, lambda path: view.choose(str(path)), (view.chosen,), lasting=False)
    licence = StateEntry(
        "licence", view.licence.currentText, lambda text: view.licence.setCurrentText(str(text)),
        (view.licence.currentTextChanged,),
    )  # fmt: skip
    return [chosen, of_combo("format", view.format), of_text("author", view.author), licence,
            of_fold("unfolded", view.fold)]  # fmt: skip
