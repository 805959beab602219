import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import networks
from napari_unet.core.data.arrays import Normalisation, Planes
from napari_unet.core.inference.tiled import Predictor, predict_region
from napari_unet.core.network.device import choose
from napari_unet.core.synthetic import generate
from reporting import CannotMeasure
from trials import Picture, Results

NAME = "half-w4-d1@16"


@pytest.fixture
def collection():
    pictures = []
    for seed in range(3):
        image, truth = generate("nuclei", (96, 96), seed, diameter=16, density=0.3)
        pictures.append(Picture(f"p{seed}", image, truth.astype(np.int32)))
    samples = tuple(networks.to_sample(p, 1.0) for p in pictures[:2])
    return networks.Collection(samples, (pictures[2],), 1.0, 5, tuple(pictures[:1]))


@pytest.fixture
def half():
    return networks.Candidate("half", 4, 2, 24.0).network(0).eval()


@pytest.mark.parametrize("name", ["quarter-w32-d3@24", "half-w32-d3", "half-w32-d3@24+shape"])
def test_a_name_that_is_no_candidate_is_refused(name):
    with pytest.raises(CannotMeasure, match="is no candidate"):
        networks.Candidate.parse(name)


def test_names_of_candidates_are_read():
    assert networks.Candidate.parse("half-w48-d3@16") == networks.Candidate("half", 48, 3, 16.0)
    assert [networks.Candidate.parse(name).stem for name in networks.CANDIDATES[:2]] == ["full", "half"]


def test_the_half_stem_restores_the_size_and_starts_as_wide_as_the_unet(half):
    with torch.inference_mode():
        same = half(torch.rand(2, 1, 64, 48))
        size = half.geometry.input_size(half.geometry.bottom_for(40)[0])
        valid = half(torch.rand(1, 1, size, size), padding="valid")
    assert same.shape == (2, 3, 64, 48)
    assert valid.shape[-1] == half.geometry.bottom_for(40)[1] == size - 2 * half.geometry.margin
    assert half.geometry.stride == 8 and half.outputs.keys() == {"classes", "distance"}


def test_the_half_stem_sees_the_same_whatever_the_tiles_are(half):
    image = np.random.default_rng(0).random((1, 90, 110)).astype(np.float32)
    predictor = Predictor.create(half, choose("cpu", "float32"))
    whole, tiled = (
        predict_region(predictor, Planes(image, "cyx"), (), (3, 90, 5, 110), Normalisation((0.0,), (1.0,)), tile)
        for tile in (1024, 24)
    )
    for name in whole:
        np.testing.assert_allclose(whole[name], tiled[name], atol=1e-4)


@pytest.mark.parametrize("name", [NAME, f"{NAME}+flow", f"{NAME}+offset", "full-w4-d1@16+flow"])
def test_a_candidate_is_trained_and_measured(name, collection):
    found = networks.measure(networks.Candidate.parse(name), collection, 3, 0)
    assert found["steps"] == 3 and len(found["ap"]) == 9 and found["pictures"] == 1 and found["undefined"] == 0
    assert json.loads(json.dumps(found)) == found


def test_costs_are_positive(collection):
    found = networks.costs("any", [NAME], lambda folder, seen, separation: collection)
    assert found.keys() == {NAME} and min(found[NAME].values()) > 0


def test_what_is_in_the_results_is_not_measured_again(collection, tmp_path, monkeypatch):
    chosen = SimpleNamespace(collections=["any"], candidates=[NAME], seeds=[0], seconds_cpu=0.01)
    monkeypatch.setattr(networks.Collection, "read", lambda folder, seen, separation: collection)
    networks.measure_all(Results(tmp_path / "results.jsonl"), chosen)
    monkeypatch.setattr(networks, "measure", lambda *given: pytest.fail("measured again"))
    known = Results(tmp_path / "results.jsonl")
    networks.measure_all(known, chosen)
    assert NAME in networks.tables(known, chosen)


def test_collections_that_judge_the_bundled_model_are_refused():
    for name in networks.KEPT_OUT:
        with pytest.raises(CannotMeasure, match="nothing is chosen on it"):
            networks.check([name])
    with pytest.raises(CannotMeasure, match="is none of dsb2018"):
        networks.check(["elsewhere"])
    networks.check(list(networks.COLLECTIONS))
    assert not set(networks.KEPT_OUT) & networks.COLLECTIONS.keys()


@pytest.mark.parametrize("name", networks.COLLECTIONS)
def test_no_picture_is_both_learnt_from_and_tested(name):
    if not networks.pretrain.DATA.exists():
        pytest.skip("the annotated images are not beside the repository")
    taught, tested = networks.COLLECTIONS[name]()
    assert taught and tested and not set(taught) & set(tested)
