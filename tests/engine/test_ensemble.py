"""Ensembles of checkpoints in eval.py, caption.py and the Predictor."""

import json

import pytest
import torch

import caption
import eval as evaluation
from data.palette import SECOND
from tests.helpers.tiny import save_tiny_detector
from tools.engine.checkpoint import load_checkpoint, save_checkpoint
from tools.engine.predictor import Predictor
from tools.engine.provenance import sha256_of


@pytest.fixture(scope="module")
def members(tiny_run, tmp_path_factory):
    """The tiny run's checkpoint and two variants of it, in folders of their own."""
    root, content = tmp_path_factory.mktemp("members"), load_checkpoint(tiny_run / "best.pt")
    paths = []
    for index, name in enumerate("abc"):
        torch.manual_seed(index)
        model = dict(content["model"])
        for part in ("decoder.output.weight", "decoder.output.bias"):
            model[part] = model[part] + 0.3 * index * torch.randn_like(model[part])
        paths.append(root / name / "best.pt")
        paths[-1].parent.mkdir()
        save_checkpoint(paths[-1], {**content, "model": model})
    return paths


def changed_copy(path, target, **parts):
    save_checkpoint(target, {**load_checkpoint(path), **parts})
    return target


def pair_of(demo_input):
    test = demo_input.parent / "dataset" / "test"
    return [str(sorted((test / view).iterdir())[0]) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B")]


def test_eval_writes_the_hashes_of_all_members(members, demo_input):
    argv = ["--checkpoint", *map(str, members)]
    evaluation.main(argv)
    (folder,) = [path for path in members[0].parent.iterdir() if path.is_dir()]
    record = json.loads((folder / "scores.json").read_text())["evaluation"]
    hashes = [sha256_of(path) for path in members]
    assert [member["sha256"] for member in record["members"]] == hashes
    assert [member["checkpoint"] for member in record["members"]] == [str(path) for path in members]
    assert record["sha256"] not in hashes
    assert folder.name == f"test_ensemble_{record['sha256'][:8]}"
    captions = json.loads((folder / "captions.json").read_text())
    expected = Predictor.load(members, device="cpu").caption(*pair_of(demo_input))
    assert captions[0]["caption"] == expected.text
    assert captions[0]["log_prob"] == pytest.approx(expected.log_prob, abs=1e-4)


def test_caption_accepts_checkpoints_before_and_after_the_images(members, demo_input, capsys):
    files, outputs = [str(path) for path in members], []
    images = pair_of(demo_input)
    for argv in (
        [*images, "--json", "--checkpoint", *files],
        ["--json", "--checkpoint", *files, *images],
        ["--checkpoint", *files, "--json", *images],
    ):
        caption.main(argv)
        outputs.append(json.loads(capsys.readouterr().out))
    assert outputs[0] == outputs[1] == outputs[2]
    caption.main(["--checkpoint", files[0], *images, "--json"])
    assert json.loads(capsys.readouterr().out)["log_prob"] != outputs[0]["log_prob"]


def test_members_must_have_the_same_vocabulary_palette_and_image_size(members, tmp_path):
    first = members[0]
    words = load_checkpoint(first)["vocabulary"]
    swapped = [words[0], words[2], words[1], *words[3:]]
    palette = json.loads(SECOND.to_json())
    palette["names"][0] = "soil"
    cases = {
        "vocabulary": {"vocabulary": swapped},
        "image size": {"image_size": [48, 48]},
        "palette": {"palette": json.dumps(palette)},
    }
    for rule, parts in cases.items():
        other = changed_copy(first, tmp_path / "other.pt", **parts)
        with pytest.raises(
            ValueError, match=f"must have the same {rule}: .*train them on the same"
        ) as caught:
            Predictor.load([first, other])
        assert "\n" not in str(caught.value)
        assert str(other) in str(caught.value)
        with pytest.raises(ValueError, match=f"must have the same {rule}"):
            evaluation.main(["--checkpoint", str(first), str(other)])


def test_a_detector_is_not_a_member(members, demo_input, tmp_path):
    save_tiny_detector(tmp_path / "detector.pt", demo_input)
    for files in ([members[0], tmp_path / "detector.pt"], [tmp_path / "detector.pt", members[0]]):
        with pytest.raises(
            ValueError, match=r"an ensemble has captioning models, .*detector.pt is none: give"
        ):
            evaluation.main(["--checkpoint", *map(str, files)])
