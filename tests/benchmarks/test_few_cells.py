from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import few_cells
from few_cells import Ours, Row, Task
from napari_unet.cli.train import choose_settings
from painted_crops import Kind, Picture, paint_cells
from peers.protocol import Report
from reporting import CannotMeasure
from tiny import write_model
from trials import Results

SMALL = {"width": "4", "depth": "2", "patch": "64", "steps": "2"}
WAYS = {"bundled": Ours("ours, bundled start", "a model", {}), "scratch": Ours("ours, from scratch", "scratch", {})}


@pytest.fixture
def task():
    from napari_unet.core.synthetic import generate

    pictures = []
    for seed in range(6):
        image, truth = generate("nuclei", (96, 96), seed, diameter=16, density=0.3)
        pictures.append(Picture(f"p{seed}", image, truth.astype(np.int32), seed != 5))
    kind = Kind("generated nuclei", "generated", lambda every: (every[:4], every[4:]))
    return Task("nuclei", kind, tuple(paint_cells(pictures[:4], 9)), tuple(pictures[4:]))


def value(ap, spared=None):
    scores = {**dict.fromkeys(few_cells.COLUMNS, ap), "cells_truth": 9.0, "cells_predicted": 8.0}
    return {
        "all": scores, "spared": None if spared is None else {**scores, "ap_0.50": spared}, "method": "m 1.0",
        "steps": 7, "seconds": 10.0, "segmenting": 1.0, "remark": "quick", "date": "2026-01-01", "commit": "abc",
    }  # fmt: skip


@pytest.fixture
def innocent(monkeypatch):
    """Let no model know any picture."""
    monkeypatch.setattr(few_cells.trials, "seen", lambda start, kind, names: "")


def test_ours_learns_from_the_paint_alone(task):
    ways = Ours("ours", "scratch", SMALL)
    model, about = few_cells.train_ours(task, ways, 60.0)
    entry = model.card.training_history[-1]
    assert about.steps == 2 and entry["cells"] == 9 and entry["settings"]["unpainted"] == "unknown"
    known = sum(int((p.paint > 0).sum()) for p in task.painted)
    assert 0 < known <= entry["known_pixels"] < 1.3 * known
    assert entry["images"] == [f"{p.name} {i}" for i, p in enumerate(task.painted)]


def test_a_row_holds_the_scores_of_all_and_of_spared_pictures(task):
    found = [task.tests[0].truth, np.zeros_like(task.tests[1].truth)]
    row = few_cells.row_of(task, found, Report("mine", 3, 1.0))
    assert (row["all"]["ap_0.50"], row["spared"]["ap_0.50"], row["spared"]["ap_mean"]) == (0.5, 1.0, 1.0)
    shown = Task("em", task.kind, task.painted, task.tests[1:])
    assert few_cells.row_of(shown, found[1:], Report("mine", 3, 1.0))["spared"] is None


def test_the_papers_setting_is_the_papers():
    training, network = choose_settings(dict(few_cells.PAPER), True)
    assert (network.width, network.depth, network.padding, network.norm) == (64, 4, "valid", "none")
    assert (training.optimiser, training.momentum, training.batch, network.distance) == ("sgd", 0.99, 1, False)


def test_rows_are_measured_once_and_only_while_there_is_time(task, tmp_path, monkeypatch):
    asked = []

    def measure(row, ways, python):
        asked.append(row.method)
        return {k: v for k, v in value(0.5).items() if k not in ("date", "commit")}

    monkeypatch.setattr(Row, "measure", measure)
    monkeypatch.setattr(few_cells.trials, "identity", lambda start: start)
    rows = [Row(task, seconds, method) for seconds in (10.0, 6000.0) for method in ("scratch", "forest")]
    path = tmp_path / "rows.jsonl"
    done = few_cells.measured(rows, WAYS, None, Results(path), 9)
    assert [(r.seconds, r.method) for r in done] == [(10.0, "scratch"), (10.0, "forest")]
    assert len(few_cells.measured(rows, WAYS, None, Results(path), 0)) == 4
    assert asked == ["scratch", "forest", "scratch", "forest"]


def test_another_model_or_setting_or_peer_is_another_row(task, monkeypatch):
    monkeypatch.setattr(few_cells.trials, "identity", lambda start: start)
    keys = [
        Row(task, 10.0, "bundled").key(WAYS),
        Row(task, 60.0, "bundled").key(WAYS),
        Row(task, 10.0, "bundled").key({"bundled": Ours("ours", "another", {})}),
        Row(task, 10.0, "bundled").key({"bundled": Ours("ours", "a model", {"batch": "2"})}),
        Row(task, 10.0, "scratch").key(WAYS),
        Row(task, 10.0, "stardist").key(WAYS),
    ]
    assert len({str(sorted(map(str, key.items()))) for key in keys}) == 6
    assert keys[-1]["peer"].startswith("stardist==")


def test_every_peer_has_a_script_and_a_version():
    folder = Path(few_cells.__file__).parent / "peers"
    assert [name for name in few_cells.PEERS if not (folder / f"peer_{name}.py").is_file()] == []
    assert all(few_cells.pinned(few_cells.PACKAGES[name]) for name in few_cells.PEERS)


def test_at_ten_seconds_the_forest_is_the_rival_and_at_sixty_every_peer(task, innocent):
    done = {
        Row(task, s, m): value(ap)
        for s in (10.0, 60.0)
        for m, ap in (("bundled", 0.7), ("scratch", 0.9), ("forest", 0.6), ("stardist", 0.8))
    }
    ten, sixty = few_cells.figures_of(done, WAYS)
    assert ten.value == pytest.approx(0.1) and ten.name.endswith("over random forest")
    assert sixty.value == pytest.approx(-0.1) and "0.800 of StarDist" in sixty.detail
    assert ten.at_least is None and task.cells == 9


def test_only_twenty_cells_from_the_bundled_model_are_promised(task, innocent, monkeypatch):
    monkeypatch.setattr(Task, "cells", 20)
    ways = {**WAYS, "clean": Ours("ours, clean start", "another model", {})}
    done = {Row(task, 60.0, m): value(0.5) for m in ("bundled", "clean", "forest")}
    promised = {f.name.split(" of ")[1]: f.at_least for f in few_cells.figures_of(done, ways)}
    assert promised == {
        "ours, bundled start over random forest": 0.0,
        "ours, clean start over random forest": None,
    }


def test_what_a_start_has_seen_is_left_out_of_its_lead(task, tmp_path):
    start = str(write_model(tmp_path / "model", training_history=({"pictures": {"generated": 3}},)))
    ways = {"bundled": Ours("ours, bundled start", start, {})}
    done = {Row(task, 60.0, "bundled"): value(0.9, 0.3), Row(task, 60.0, "forest"): value(0.5, 0.4)}
    (figure,) = few_cells.figures_of(done, ways)
    assert figure.value == pytest.approx(-0.1) and "1 pictures" in figure.detail
    assert few_cells.line(Row(task, 60.0, "bundled"), value(0.9, 0.3), ways)[3].endswith("(*)")
    blind = {row: {**v, "spared": None} for row, v in done.items()}
    assert few_cells.figures_of(blind, ways) == []


def test_all_lines_have_the_columns_of_the_header(task, innocent):
    lines = [few_cells.line(Row(task, 10.0, m), value(0.5), WAYS) for m in ("bundled", "scratch", "cellpose")]
    assert {len(one) for one in lines} == {len(few_cells.HEADER)}
    assert lines[2][3] == "Cellpose 3" and lines[2][-2] == "m 1.0; quick" and lines[0][8] == "none"
    header, _, row = few_cells.described([task]).splitlines()
    assert header.count("|") == row.count("|") and "| generated nuclei | 9 |" in row


def test_start_models_are_named(tmp_path):
    path = str(write_model(tmp_path / "model"))
    chosen = SimpleNamespace(set=[("batch", "2")], model=path, start=[f"clean={path}"])
    ways = few_cells.our_ways(chosen)
    assert list(ways) == ["bundled", "clean", "scratch", "paper"] and ways["clean"].start == path
    assert ways["scratch"].values == {"batch": "2"} and ways["paper"].values == few_cells.PAPER
    chosen.start = ["clean"]
    with pytest.raises(CannotMeasure, match="--start is clean, but has to be NAME=MODEL"):
        few_cells.our_ways(chosen)


def test_every_bundled_model_counts_as_the_start(monkeypatch):
    monkeypatch.setattr(few_cells, "bundled_models", lambda: ("bundled:nuclei", "bundled:transmitted"))
    assert few_cells.members("bundled") == ("bundled:nuclei", "bundled:transmitted")
    assert few_cells.members("mine") == ("mine",)


def test_a_missing_environment_leaves_the_peers_out_or_is_told(task, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(few_cells, "ROOT", tmp_path)
    assert few_cells.peers_python(None) is None and "tox -e peers" in capsys.readouterr().err
    with pytest.raises(CannotMeasure, match="make the peers' environment by `tox -e peers`"):
        few_cells.peers_python(tmp_path / "python")
    with pytest.raises(CannotMeasure, match="no environment of the peers"):
        Row(task, 1.0, "forest").measure(WAYS, None)


def test_a_peer_that_fails_is_told_with_its_last_words(task, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho it broke >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(CannotMeasure, match=r"forest ended with 3:\nit broke"):
        few_cells.run_peer(task, "forest", 1.0, python)
