"""The probability of a change: hand-computed log-odds and temperatures, and the caption that it decides."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import caption
import eval as evaluation
from tools import calibrate
from tools.engine.change import change_log_odds, change_probability, encode_sentences, fit_temperature
from tools.engine.checkpoint import load_checkpoint, save_checkpoint
from tools.engine.decoding import calibration_remark
from tools.engine.predictor import Predictor

ANSWERS = 3


@pytest.fixture(scope="module")
def pairs(demo_input):
    """The four files of each test pair."""
    test = demo_input.parent / "dataset" / "test"
    views = (sorted((test / view).iterdir()) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B"))
    return list(map(list, zip(*views, strict=True)))


@pytest.fixture(scope="module")
def predictor(tiny_run):
    """The tiny run's model with other weights of the last layer, so that its captions differ and end."""
    loaded = Predictor.load(tiny_run / "best.pt", device="cpu")
    output = loaded.model.decoder.output
    torch.manual_seed(0)
    with torch.no_grad():
        output.weight.add_(0.3 * torch.randn_like(output.weight))
        output.bias[loaded.vocabulary.end] += 3
        output.bias[loaded.vocabulary.unk] -= 9
    return loaded


def with_threshold(predictor, threshold, **changes):
    decode = replace(predictor.config.decode, change_threshold=threshold)
    return replace(predictor, config=replace(predictor.config, decode=decode), **changes)


def test_log_odds_of_the_rest_beside_the_sum_of_the_sentences():
    log_probs = torch.tensor([[0.5, 0.25], [0.1, 0.1], [1.0, 1e-9]]).log()
    first, second, certain = change_log_odds(log_probs)
    assert first == pytest.approx(math.log(0.25 / 0.75), rel=1e-6)
    assert second == pytest.approx(math.log(0.8 / 0.2), rel=1e-6)
    assert -14 < certain < -13  # rounding must not make a change impossible
    assert change_probability(first, None) == pytest.approx(0.25)
    assert change_probability(math.log(9), 2.0) == pytest.approx(0.75)  # the root of odds 9 is 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_makes_probabilities_equal_to_the_share_of_correct_decisions(temperature):
    """Log-odds of +-T ln 3 that are right in 3 of 4 pairs must become 3/4 and 1/4, so T is right."""
    value = temperature * math.log(3)
    log_odds = np.tile([value, value, value, -value, -value, -value, -value, value], 5000)
    changed = np.tile([True] * 4 + [False] * 4, 5000)
    assert fit_temperature(log_odds, changed) == pytest.approx(temperature, rel=1e-3)
    assert fit_temperature(log_odds, ~changed) > 50  # decisions worse than chance


def test_temperature_of_pairs_without_mistakes_stays_near_one_and_needs_both_kinds():
    separated = fit_temperature([4.0, -4.0] * 20, [True, False] * 20)
    # the derivative of 40 ln(1 + exp(-4 b)) + (ln b)^2 / 2 at b = 1 / T is 0
    b = 1 / separated
    assert 160 / (1 + math.exp(4 * b)) == pytest.approx(math.log(b) / b, rel=1e-3)
    assert 0.3 < separated < 1
    assert fit_temperature([1.0, 2.0], [True, True]) is None
    assert fit_temperature([], []) is None


def test_the_probability_is_the_mass_of_all_captions_that_are_no_no_change_sentence(predictor, pairs):
    answer = predictor.caption(*pairs[0])
    scores = predictor.score(*pairs[0][:2], list(predictor.no_change), *pairs[0][2:])
    unchanged = sum(math.exp(score) for score in scores)
    log_odds = math.log(1 - unchanged) - math.log(unchanged)
    expected = change_probability(log_odds, predictor.change_temperature)
    assert answer.change_probability == pytest.approx(expected, abs=1e-5)


def test_sentences_have_the_log_probability_of_the_caption(predictor, pairs):
    for files in pairs[:3]:
        answer = predictor.caption(*files, answers=ANSWERS)
        texts = [each.text for each in answer.answers]
        scores = predictor.score(*files[:2], texts, map_before=files[2], map_after=files[3])
        assert scores == pytest.approx([each.log_prob for each in answer.answers], abs=1e-4)
    assert predictor.score(*pairs[0][:2], []) == []


def test_a_sentence_that_is_given_twice_counts_once(predictor, pairs):
    twice = (*predictor.no_change, *predictor.no_change, f" {predictor.no_change[0]}")
    repeated = replace(predictor, no_change=twice).caption(*pairs[0])
    assert repeated.change_probability == predictor.caption(*pairs[0]).change_probability


def test_unknown_words_and_long_sentences_are_named(predictor, pairs):
    with pytest.raises(ValueError, match=r"unknown: zebra, <unk>: use words of the checkpoint's vocab"):
        predictor.score(*pairs[0][:2], ["the zebra", "<unk> the"])
    longest = predictor.model.settings.max_length
    with pytest.raises(ValueError, match=f"at most {longest} words, .* got {longest + 1}: shorten it"):
        predictor.score(*pairs[0][:2], [" ".join(["the"] * (longest + 1))])
    assert encode_sentences([""], predictor.vocabulary, 5).shape == (1, 2)


def test_threshold_decides_between_the_best_sentence_and_the_best_change(predictor, pairs):
    for files in pairs[:3]:
        usual = predictor.caption(*files, answers=ANSWERS)
        probability = usual.change_probability
        never = with_threshold(predictor, math.nextafter(probability, 2)).caption(*files, answers=ANSWERS)
        scores = predictor.score(*files[:2], list(predictor.no_change), *files[2:])
        assert not never.changed
        assert never.text == predictor.no_change[int(np.argmax(scores))]
        assert never.log_prob == pytest.approx(max(scores), abs=1e-5)
        assert len({each.text for each in never.answers}) == ANSWERS
        always = with_threshold(predictor, probability).caption(*files, answers=ANSWERS)
        assert always.changed
        assert always.change_probability == never.change_probability == probability
        (score,) = predictor.score(*files[:2], [always.text], *files[2:])
        assert always.log_prob == pytest.approx(score, abs=1e-4)


def test_a_change_is_found_where_all_beams_end_in_no_change_sentences(predictor, pairs):
    beams = predictor.config.decode.beam_size
    likely = tuple(each.text for each in predictor.caption(*pairs[0], answers=beams).answers)
    decided = with_threshold(predictor, 0.0, no_change=likely).caption(*pairs[0])
    assert decided.changed
    assert decided.text not in likely
    wide = replace(predictor.config.decode, beam_size=2 * beams)
    wide = replace(predictor, config=replace(predictor.config, decode=wide))
    ranked = [each.text for each in wide.caption(*pairs[0], answers=2 * beams).answers]
    assert decided.text == next(text for text in ranked if text not in likely)


def test_without_a_known_sentence_there_is_no_probability(predictor, pairs):
    unknown = replace(predictor, no_change=("nothing whatsoever",))
    assert unknown.caption(*pairs[0]).change_probability is None
    (remark,) = calibration_remark(unknown.decoding)
    assert "none of the no-change sentences" in remark
    with pytest.raises(ValueError, match=r"change_threshold 0.5 needs a no-change sentence .*: leave it out"):
        with_threshold(unknown, 0.5).caption(*pairs[0])


def test_training_stores_the_temperature_that_old_checkpoints_lack(tiny_run, pairs, tmp_path, capsys):
    content = load_checkpoint(tiny_run / "best.pt")
    lines = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    best = [line for line in lines if line["best"]][-1]
    assert content["change_temperature"] == best["change_temperature"] > 0
    old = {name: part for name, part in content.items() if name != "change_temperature"}
    save_checkpoint(tmp_path / "old.pt", old)
    argv = ["--json", "--checkpoint", str(tmp_path / "old.pt"), *map(str, pairs[0])]
    caption.main(argv)
    printed = capsys.readouterr()
    assert printed.err.count("not calibrated") == 1
    output = tmp_path / "new.pt"
    calibrate.main(["--checkpoint", str(tmp_path / "old.pt"), "--output", str(output)])
    fitted = load_checkpoint(output)["change_temperature"]
    assert fitted == pytest.approx(best["change_temperature"], rel=1e-3)
    assert f"temperature {fitted:.3f} from 3 val pairs" in capsys.readouterr().out
    caption.main([*argv[:2], str(output), *argv[3:]])
    assert "not calibrated" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="is the checkpoint: name another file"):
        calibrate.main(["--checkpoint", str(output), "--output", str(output)])


def test_a_damaged_temperature_is_refused(tiny_run, tmp_path):
    content = load_checkpoint(tiny_run / "best.pt")
    for value in (-1.0, "1", float("inf")):
        save_checkpoint(tmp_path / "damaged.pt", {**content, "change_temperature": value})
        with pytest.raises(ValueError, match="change_temperature is not a positive number"):
            load_checkpoint(tmp_path / "damaged.pt")


def test_eval_trades_missed_for_false_changes(tiny_run, tmp_path, capsys):
    decisions = {}
    for threshold in ("0", "1"):
        argv = ["--checkpoint", str(tiny_run / "best.pt"), "--output", str(tmp_path / threshold)]
        evaluation.main([*argv, "--decode.change_threshold", threshold])
        scores = json.loads((tmp_path / threshold / "scores.json").read_text())
        captions = json.loads((tmp_path / threshold / "captions.json").read_text())
        assert all(0 <= entry["change_probability"] < 1 for entry in captions)
        assert scores["evaluation"]["settings"]["decode.change_threshold"] == float(threshold)
        assert scores["change"]["calibrated"]
        decisions[threshold] = scores["decision"]["caption"]
    assert decisions["0"]["changed"]["value"] == decisions["1"]["unchanged"]["value"] == 100
    assert decisions["0"]["unchanged"]["value"] == decisions["1"]["changed"]["value"] == 0
    assert "probability of a change (calibrated)" in capsys.readouterr().out
