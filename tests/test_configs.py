"""Settings: defaults, YAML files and error messages."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

import configs
from configs import Config
from configs.command_line import CommandLine, early_option, load
from tools.run_ablations import ABLATIONS

FOLDER = Path(configs.__file__).parent
FILES = sorted({*FOLDER.glob("*.yaml"), *FOLDER.glob("rivals/*.yaml")} - {ABLATIONS})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_survives_a_checkpoint(path):
    config = load(path)
    assert Config.from_dict(config.to_dict()) == config


def test_the_annotated_file_documents_every_setting_with_its_default():
    documented = yaml.safe_load((Path(configs.__file__).parent / "second_cc.yaml").read_text())
    assert documented == asdict(Config())


def test_options_override_the_stored_settings_which_override_defaults():
    stored = Config().to_dict()
    stored["decode"]["beam_size"] = 7
    stored["model"]["width"] = 16
    config, _ = CommandLine(None, "data", "decode").read(["--data.workers", "0"], stored)
    assert (config.data.workers, config.decode.beam_size, config.model.width) == (0, 7, 16)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train.epochs", "0"], "train.epochs.*0.*v>0"),
        (["--model.layers", "serial"], "model.layers.*chained.*serial"),
        (["--model.dropout", "1"], "model.dropout.*v<1"),
        (["--train.epoch", "3"], "unrecognized.*train.epoch 3, did you mean train.epochs?"),
        (["--train.epoch=3"], "unrecognized.*train.epoch=3, did you mean train.epochs?"),
        (["--seed", "3"], "unrecognized.*seed 3, did you mean train.seed?"),
        (["--decode.batchsize", "3"], "did you mean decode.batch_size?"),
        (["--train.lr", "1"], "unrecognized arguments: --train.lr 1 .configs"),
        (["--model.width", "9"], "model.width must be .*9 and 8"),
        (["--data.augment", "[flips, fog]"], "data.augment.*fog"),
        (
            [
                *["--train.keep_features", "true", "--model.trained_from", "nothing"],
                *["--data.augment", "[flips]"],
            ],
            "keep_features must be false .*data.augment.* got .*flips",
        ),
        (["--train.keep_features", "true"], "keep_features needs .*layer2 and frozen"),
    ],
)
def test_mistakes_name_key_value_and_rule(argv, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        CommandLine(None).read(argv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  widht: 3\n", "'widht', did you mean model.width?"),
        ("trian:\n  epochs: 3\n", "'trian.epochs' is not accepted, did you mean train.epochs?"),
        ("epochs: 3\n", "'epochs' is not accepted, did you mean train.epochs?"),
        ("zebra: 3\n", "'zebra' is not accepted .configs"),
    ],
)
def test_an_unknown_key_of_a_file_is_named_with_the_nearest(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_early_option_reads_both_spellings_and_ignores_the_rest():
    assert early_option(["--checkpoint=a.pt", "--split", "val"], "--checkpoint") == "a.pt"
    assert early_option(["x.png", "--checkpoint", "b.pt"], "--checkpoint") == "b.pt"
    assert early_option([], "--checkpoint") is None


def test_a_deeply_nested_file_ends_in_one_line(tmp_path):
    (tmp_path / "deep.yaml").write_text("data: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ValueError, match="configuration: ") as caught:
        load(tmp_path / "deep.yaml")
    assert len(str(caught.value)) < 500
