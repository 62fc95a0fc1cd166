"""The robustness study: reuse of computations, rates computed by hand, and the command."""

import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from data.dataset import ChangeCaptions
from data.perturbations.apply import perturb
from data.splits import map_classes_of
from models import build_model
from tests.helpers.tiny import random_views, save_tiny_detector, tiny_config, tiny_model
from tools import robustness
from tools.engine.captioning import predict
from tools.engine.checkpoint import load_checkpoint, restore_detector, save_checkpoint
from tools.engine.decoding import CaptionDecoding
from tools.engine.distributed import Processes
from tools.scoring.facts import Facts
from tools.studies.perturbation_scores import (
    CLEAN,
    IMAGES_MEAN,
    Cell,
    Truth,
    as_intervals,
    differences,
    score_cells,
)
from tools.studies.perturbation_tables import tables, trained_on
from tools.studies.perturbed_pairs import PerturbedPairs, batches, perturbation_seed, show_cells
from tools.studies.robustness_subject import Subject, caption_cells, common_truth

pytestmark = pytest.mark.integration

SAME = "the scene is the same as before"
BUILT = "a house is built"
TRUTH = Truth(
    [(SAME,), (SAME, "nothing has changed"), (BUILT,)], np.array([False, False, True]), ["a", "b", "c"]
)
ALL = np.array([True, True, True])


@pytest.mark.parametrize("modalities", ["both", "rgb", "sem"])
def test_only_altered_views_are_recomputed(modalities):
    model = tiny_model(modalities=modalities).eval()
    clean, views = random_views(3), random_views(3)
    perturbed = random_views(3, seed=1)
    differs = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool()
    views[differs] = perturbed[differs]
    seen = []
    for encoder, _ in model.encoders():
        encoder.register_forward_hook(lambda *call: seen.append(call[1][0].shape[:2].numel()))
    with torch.inference_mode():
        features = model.features(clean)
        seen.clear()
        mixed = model.mixed_features(features, views, differs)
        assert seen == {"both": [1, 2], "rgb": [1], "sem": [2]}[modalities]
        torch.testing.assert_close(mixed, model.features(views), rtol=1e-5, atol=1e-5)  # other batches


@pytest.fixture(scope="module")
def subject(tiny_run) -> Subject:
    best = str(tiny_run / "best.pt")
    return robustness.open_subject(best, ["--checkpoint", best])


@pytest.fixture(scope="module")
def pairs(subject) -> ChangeCaptions:
    return subject.pairs["test"]


@pytest.fixture(scope="module")
def detector(demo_input, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("detector") / "best.pt"
    save_tiny_detector(path, demo_input)
    return path


def shown(subject, pairs, cells, detector=None) -> dict[Cell, tuple[torch.Tensor, torch.Tensor]]:
    """By cell: the views of all pairs, and flags of those that differ from the clean ones."""
    actual = {cell: [] for cell in cells}
    settings = {"config": subject.config, "device": torch.device("cpu"), "detector": detector}
    for cell, _, *both in show_cells(pairs, cells, split="test", seed=4, **settings):
        actual[cell].append(both)
    return {cell: tuple(map(torch.cat, zip(*both, strict=True))) for cell, both in actual.items()}


def test_cells_contain_perturbed_pairs_and_flags_of_altered_views(subject, pairs):
    cells = [CLEAN, Cell("brightness", 2), Cell("brightness", 5), Cell("map_void", 5)]
    clean, bright, brighter, void = shown(subject, pairs, cells).values()
    assert torch.equal(clean[0], torch.stack([sample["views"] for sample in pairs]))
    assert not clean[1].any()
    assert (bright[1].sum(1) == 1).all()
    assert torch.equal(bright[1], brighter[1])  # the same draw, only worse
    assert not void[0][:, 2:].any()
    assert not void[1][:, :2].any()
    drawn = clean[0][:, 2:].flatten(2).any(2)  # a void map does not differ from itself
    assert torch.equal(void[1][:, 2:], drawn)


def assert_same_views(views, expected):
    """Assert equal images, and maps that differ in a few pixels at most, as rounding depends on the batch."""
    assert torch.equal(views[:, :2], expected[:, :2])
    assert (views == expected).float().mean() > 0.999


def test_detector_gets_perturbed_images_and_its_maps_get_map_noise(subject, pairs, detector):
    network = restore_detector(load_checkpoint(detector))
    images = torch.stack([sample["views"][:2] for sample in pairs])
    cells = [CLEAN, Cell("haze", 5), Cell("registration", 5), Cell("map_invented", 3)]
    actual = shown(subject, pairs, cells, network)
    clean = torch.cat([images, network.detect(images)], dim=1)
    assert_same_views(actual[CLEAN][0], clean)
    for cell, (views, differs) in actual.items():
        rows = zip(clean.numpy(), pairs.rows, strict=True)
        classes = map_classes_of(pairs.reader, [cell.name])
        altered = [
            perturb(one, *cell, seed=perturbation_seed(4, "test", cell.name, row), classes=classes)
            for one, row in rows
        ]
        expected = torch.from_numpy(np.stack(altered))
        if cell.name in ("haze", "registration"):
            expected[:, 2:] = network.detect(expected)
            assert not torch.equal(expected[:, 2:], clean[:, 2:])
        assert_same_views(views, expected)
        assert torch.equal(differs, (views != actual[CLEAN][0]).flatten(2).any(2))


def test_captions_equal_those_of_separate_evaluation(subject, pairs, meteor):
    vocabulary, config = subject.vocabulary, subject.config
    torch.manual_seed(0)
    model = build_model(tiny_config(), len(vocabulary)).eval()
    with torch.no_grad():
        model.fusion.project_rgb.weight.mul_(10)  # captions that follow the images without any training
    cells = [CLEAN, Cell("noise", 5), Cell("map_void", 5), Cell("viewpoint", 5)]
    actual = {cell: [] for cell in cells}
    altered = {cell: [] for cell in cells}
    for cell, message, differs in caption_cells(subject._replace(model=model), cells, 0, meteor):
        actual[cell] += message
        altered[cell] += differs
    assert all(altered[CLEAN])
    assert all(altered[Cell("noise", 5)])
    drawn = [bool(sample["views"][2:].any()) for sample in pairs]
    assert altered[Cell("map_void", 5)] == drawn  # void maps stay void
    expected = predict(CaptionDecoding(model, vocabulary, (), config.decode), pairs, config, Processes())
    assert actual[CLEAN] == [vocabulary.decode(pair.captions[0].tokens) for pair in expected]
    samples = PerturbedPairs(pairs, cells, split="test", seed=0)
    special = {"start": vocabulary.start, "end": vocabulary.end, "beam_size": config.decode.beam_size}
    for number, cell in enumerate(cells):
        views = torch.stack([samples[number, pair]["views"] for pair in range(len(pairs))])
        answers = model.caption(views, **special)
        assert actual[cell] == [vocabulary.decode(ranked[0].tokens) for ranked in answers]
    assert actual[CLEAN] != actual[Cell("noise", 5)]


def test_splits_and_perturbations_draw_independently(subject, pairs):
    """The altered date is the same at all severities of a perturbation."""
    names = ("brightness", "contrast", "haze", "noise")
    cells = [Cell(name, severity) for name in names for severity in (3, 5)]

    def dates(split: str) -> np.ndarray:
        samples = PerturbedPairs(pairs, cells, split=split, seed=0)
        changed = np.zeros((len(cells), len(pairs)), bool)
        for cell, pair in np.ndindex(changed.shape):
            changed[cell, pair] = (samples[cell, pair]["views"] != pairs[pair]["views"])[1].any()
        return changed

    val, test = dates("val"), dates("test")
    assert np.array_equal(val[::2], val[1::2])
    assert len(np.unique(val[::2], axis=0)) > 1
    assert not np.array_equal(val, test)


def test_batches_cover_all_cells_before_the_next_pairs():
    assert batches(3, 2, 2) == [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 2)], [(1, 2)]]


def test_rates_by_hand(meteor):
    captions = {
        CLEAN: [SAME, SAME, BUILT],
        Cell("haze", 1): [SAME, BUILT, BUILT],
        Cell("jpeg", 1): [BUILT, BUILT, SAME],
    }
    altered = dict.fromkeys(captions, ALL)
    result = as_intervals(score_cells(captions, altered, TRUTH, [SAME], meteor, Facts()))
    values = {}
    for name, curve in result["curves"].items():
        values[name] = {measure: interval["value"] for measure, interval in curve[1].items()}
    clean = result["clean"]["false_change"]
    assert (clean["value"], clean["low"], clean["n"]) == (0, 0, 2)
    assert clean["high"] == pytest.approx(84.19, abs=0.01)  # of two pairs none: the exact interval
    assert result["clean"]["s_m"]["value"] > values["haze"]["s_m"] > values["jpeg"]["s_m"]
    assert [values[name]["false_change"] for name in ("haze", "jpeg", IMAGES_MEAN)] == [50, 100, 75]
    assert [values[name]["missed_change"] for name in ("haze", "jpeg", IMAGES_MEAN)] == [0, 100, 50]
    assert values["haze"]["change_accuracy"] == pytest.approx(200 / 3)
    assert values["jpeg"]["change_accuracy"] == 0
    assert result["clean"]["fact_f1"]["value"] == 100
    assert [values[name]["fact_f1"] for name in ("haze", "jpeg")] == [pytest.approx(200 / 3), 0]
    without = as_intervals(score_cells(captions, altered, TRUTH, [SAME], meteor))
    assert without["clean"]["fact_f1"] is None
    assert "mean of map noise" not in values


def test_mean_of_rates_that_are_all_zero_has_an_interval(meteor):
    captions = {cell: [SAME, SAME, BUILT] for cell in (CLEAN, Cell("haze", 1), Cell("jpeg", 1))}
    result = as_intervals(score_cells(captions, dict.fromkeys(captions, ALL), TRUTH, [SAME], meteor))
    mean = result["curves"][IMAGES_MEAN][1]["false_change"]
    assert (mean["value"], mean["low"], mean["n"]) == (0, 0, 4)
    assert mean["high"] == pytest.approx(84.19, abs=0.01)  # that of each perturbation: none of two pairs


def test_rates_count_only_pairs_that_were_altered(meteor):
    """Four kinds of map noise do not alter void maps, which must not count in the rate."""
    captions = {
        CLEAN: [SAME, SAME, BUILT],
        Cell("map_invented", 3): [BUILT, SAME, BUILT],
        Cell("map_missing", 3): [SAME, SAME, SAME],
        Cell("map_void", 3): [SAME, SAME, BUILT],
    }
    altered = {
        CLEAN: ALL,
        Cell("map_invented", 3): np.array([True, False, False]),
        Cell("map_missing", 3): np.array([False, False, True]),
        Cell("map_void", 3): np.array([False, False, False]),
    }
    result = as_intervals(score_cells(captions, altered, TRUTH, [SAME], meteor))
    curves = {name: curve[3] for name, curve in result["curves"].items()}
    invented = curves["map_invented"]["false_change"]
    assert (invented["value"], invented["n"]) == (100, 1)
    assert curves["map_invented"]["missed_change"] is None
    assert curves["map_missing"]["false_change"] is None
    assert curves["map_missing"]["missed_change"]["value"] == 100
    assert curves["map_void"]["change_accuracy"] is None
    mean = curves["mean of map noise"]
    assert (mean["false_change"]["value"], mean["false_change"]["n"]) == (100, 1)
    assert mean["missed_change"]["value"] == 100
    assert mean["change_accuracy"]["value"] == 0  # both altered pairs got the wrong caption
    assert "-" in next(line for line in tables(result)[0].splitlines() if line.startswith("map_missing"))


def test_models_are_compared_pair_by_pair(meteor):
    cell = Cell("haze", 3)
    truth = Truth([(SAME,)] * 20 + [(BUILT,)] * 20, np.arange(40) >= 20, [str(i) for i in range(40)])
    every = dict.fromkeys((CLEAN, cell), np.ones(40, dtype=bool))
    right, wrong = [SAME] * 20 + [BUILT] * 20, [BUILT] * 6 + [SAME] * 14 + [BUILT] * 20
    plain = score_cells({CLEAN: right, cell: wrong}, every, truth, [SAME], meteor)
    better = score_cells({CLEAN: right, cell: right}, every, truth, [SAME], meteor)
    actual = differences(plain, better)
    haze = actual["curves"]["haze"][3]
    assert haze["false_change"]["value"] == -30
    assert haze["false_change"]["p"] == pytest.approx(2 / 2**6)  # six pairs differ, all in one direction
    assert haze["s_m"]["value"] > 0
    assert actual["clean"]["false_change"]["value"] == 0
    assert actual["clean"]["false_change"]["p"] == 1


def test_rows_are_marked_as_trained_or_held_out():
    augment = ["flips", "haze", "gamma", "brightness", "contrast", "colour_cast", "noise"]
    assert trained_on("haze", augment) == " (trained)"
    assert trained_on("gaussian_blur", augment) == " (held out)"
    assert trained_on("mean of photometric", augment) == " (trained)"
    assert trained_on("mean of map noise", augment) == " (held out)"
    assert trained_on(IMAGES_MEAN, augment) == " (partly trained)"
    assert trained_on("haze", ["flips"]) == ""


def run(*argv: object) -> None:
    robustness.main([str(word) for word in argv])


def test_from_checkpoints_to_table_json_and_plot(tiny_run, tmp_path, capsys):
    for name in ("plain", "augmented"):
        (tmp_path / name).mkdir()
        shutil.copy(tiny_run / "best.pt", tmp_path / name)
    files = [tmp_path / name / "best.pt" for name in ("plain", "augmented")]
    run("--checkpoint", *files, "--perturbations", "haze", "map_missing", "--severities", 1, 3)
    folder = tmp_path / "plain" / "robustness"
    content = json.loads((folder / "robustness.json").read_text())
    assert (content["split"], content["seed"]) == (["test"], 0)
    assert 0 < content["unchanged"] < content["pairs"] == 6
    assert list(content["levels"]) == ["haze", "map_missing"]
    assert [run["label"] for run in content["runs"]] == ["plain", "augmented"]
    plain, augmented = content["runs"]
    assert plain["curves"] == augmented["curves"]
    assert plain["sha256"] == augmented["sha256"]
    assert "difference" not in plain
    assert augmented["difference"]["curves"]["haze"]["3"]["s_m"]["value"] == 0
    assert {"haze", "map_missing", IMAGES_MEAN} < set(plain["curves"])
    assert set(plain["curves"]["haze"]) == {"1", "3"}
    assert set(plain["clean"]) == {"false_change", "missed_change", "change_accuracy", "s_m", "fact_f1"}
    assert plain["curves"]["haze"] == plain["curves"][IMAGES_MEAN]  # the only one of images
    assert iio.imread(folder / "robustness.png").std() > 10

    blocks = capsys.readouterr().out.split("\n\n")
    assert blocks[0] == f"plain ({files[0]})"
    assert blocks[1].splitlines()[0].split() == ["false-change", "rate,", "%", "clean", "1", "3", "n"]
    row = blocks[1].splitlines()[1].split()
    expected = [plain["clean"], *plain["curves"]["haze"].values()]
    values = [f"{scores['false_change']['value']:.1f}" for scores in expected]
    assert row == ["haze", *values, str(expected[1]["false_change"]["n"])]
    compared = next(block for block in blocks if block.startswith(f"false-change rate, %: {IMAGES_MEAN}"))
    lines = compared.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["plain", "augmented", "augmented", "augmented"]
    assert lines[-1].startswith("augmented - plain, severity 3: +0.0 [0.0, 0.0], p 1.000")


def test_refusals(tiny_run):
    best = tiny_run / "best.pt"
    with pytest.raises(ValueError, match="perturbations.*fog.*choose from.*haze"):
        run("--checkpoint", best, "--perturbations", "fog")
    with pytest.raises(ValueError, match="severities.*6"):
        run("--checkpoint", best, "--severities", 6)
    with pytest.raises(ValueError, match="required: checkpoint"):
        run("--split", "val")
    with pytest.raises(FileNotFoundError, match="checkpoint nowhere.pt not found: train one with train.py"):
        run("--checkpoint", "nowhere.pt")


def test_detected_maps_are_labelled_and_compared_with_given_ones(tiny_run, detector, tmp_path, capsys):
    shutil.copy(tiny_run / "best.pt", tmp_path)
    argv = ["--checkpoint", tmp_path / "best.pt", "--perturbations", "noise", "--severities", 5]
    run(*argv, "--detector", detector, "--data.maps", "detected")
    content = json.loads((tmp_path / "robustness_detected_maps" / "robustness.json").read_text())
    assert content["detector"] == str(detector)
    assert content["runs"][0]["label"] == f"{tmp_path.name}, detected maps"
    assert capsys.readouterr().out.startswith(f"{tmp_path.name}, detected maps (")


def test_incompatible_maps_are_refused(tiny_run, detector, tmp_path):
    best = tiny_run / "best.pt"
    with pytest.raises(ValueError, match="maps of clean images, .*: give the detector with --detector"):
        run("--checkpoint", best, "--data.maps", "detected")
    with pytest.raises(
        ValueError, match="--detector and data.maps void exclude each other: leave --detector"
    ):
        run("--checkpoint", best, "--detector", detector, "--data.maps", "void")
    with pytest.raises(ValueError, match="a change detector is needed, .* holds mmodalcc"):
        run("--checkpoint", best, "--detector", best)
    save_checkpoint(tmp_path / "large.pt", {**load_checkpoint(detector), "image_size": [48, 48]})
    with pytest.raises(ValueError, match=r"must be trained on \(32, 32\) images .* got \(48, 48\)"):
        run("--checkpoint", best, "--detector", tmp_path / "large.pt")


def test_checkpoints_are_compared_on_the_same_pairs(subject):
    assert common_truth([subject, subject]).changed.sum() > 0
    other = robustness.open_subject(subject.path, ["--checkpoint", subject.path, "--split", "val"])
    with pytest.raises(ValueError, match="on the same pairs.*give one --data.dir"):
        common_truth([subject, other])


def test_changed_and_unchanged_pairs_are_needed(subject, pairs):
    changed = [row for row in pairs.rows if pairs.reader.changed[row]]
    alone = ChangeCaptions(pairs.reader, rows=changed, captions="none")
    with pytest.raises(ValueError, match="unchanged pairs are needed, got (\\d+) changed of \\1"):
        common_truth([subject._replace(pairs={"test": alone})])


def test_pairs_that_differ_between_models_are_not_compared_one_by_one(meteor):
    """Detected maps can differ in which pairs a perturbation alters, with the same number of them."""
    cell = Cell("map_missing", 3)
    captions = {CLEAN: [SAME, SAME, BUILT], cell: [SAME, SAME, BUILT]}
    first, second = (
        score_cells(captions, {CLEAN: ALL, cell: np.array(altered)}, TRUTH, [SAME], meteor)
        for altered in ([True, False, True], [False, True, True])
    )
    actual = differences(first, second)["curves"]["map_missing"][3]
    assert actual["false_change"] is None
    assert actual["missed_change"]["value"] == 0
