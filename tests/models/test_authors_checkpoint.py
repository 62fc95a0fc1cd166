"""Errors name the parameter of an authors' checkpoint that does not fit; unused parameters may be missing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import CONFIGS
from tests.helpers import authors_modules
from tools import import_authors
from tools.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.integration

WORDS = ["<pad>", *(f"w{i}" for i in range(4)), "<unk>", "<start>", "<end>"]


def content() -> dict[str, Any]:
    """The content of a checkpoint for WORDS."""
    return authors_modules.checkpoint(authors_modules.build(len(WORDS), layers=1))


def command(path: Path, words: list[str] = WORDS) -> list[str]:
    """Arguments that import `path` with the word map of `words`."""
    word_map = path.with_name("WORDMAP.json")
    word_map.write_text(json.dumps({word: index for index, word in enumerate(words)}))
    return [str(path), "--word_map", str(word_map), "--output", str(path.with_name("ours.pt"))]


def refuse(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        import_authors.main(command(path))
    assert "\n" not in str(caught.value)
    assert not path.with_name("ours.pt").exists()


def without_a_parameter(content: dict) -> None:
    del content["encoder_feat"].projection2


def with_one_more(content: dict) -> None:
    content["decoder"].extra = nn.Linear(2, 2, bias=False)


def of_another_shape(content: dict) -> None:
    content["encoder_feat"].LN[0] = nn.LayerNorm(8)


def of_another_type(content: dict) -> None:
    content["decoder"].wdc.half()


def with_other_positions(content: dict) -> None:
    content["decoder"].position_encoding.pe[3, 0, 5] += 1e-4


def with_other_heads(content: dict) -> None:
    content["decoder"].transformer.layers[0].multihead_attn.num_heads = 4


def without_heads(content: dict) -> None:
    for name, module in content["encoder_feat"].named_modules():
        if name.endswith("attention2"):
            module.num_heads = "two"


def without_attention(content: dict) -> None:
    del content["encoder_feat"].transformer[0].attention2
    del (
        content["decoder"].transformer.layers[0].self_attn,
        content["decoder"].transformer.layers[0].multihead_attn,
    )


def with_a_shorter_trunk(content: dict) -> None:
    content["encoder_image2"].net[6] = content["encoder_image2"].net[6][:1]


def with_a_flat_projection(content: dict) -> None:
    content["encoder_feat"].projection.weight = nn.Parameter(torch.tensor(1.0))


def with_text_for_a_tensor(content: dict) -> None:
    content["decoder"].wdc._parameters["bias"] = "text"


def with_a_list_of_parameters(content: dict) -> None:
    content["decoder"].wdc._buffers = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_parameter, r"lacks encoder_feat.projection2.bias"),
        (with_one_more, r"has the unknown weight decoder.extra.weight"),
        (
            of_another_shape,
            r"has encoder_feat.LN.0.weight as float32 of shape \(8,\), expected float32 of shape \(32,\)",
        ),
        (of_another_type, r"has decoder.wdc.weight as float16 of shape \(8, 32\), expected float32"),
        (with_other_positions, r"decoder.position_encoding.pe of the checkpoint are not the sinusoids"),
        (with_other_heads, r"same number of heads: decoder.transformer.layers.0.multihead_attn has 4"),
        (without_heads, r"same number of heads: encoder_feat.transformer.0.attention2 has two"),
        (without_attention, r"lacks encoder_feat.transformer.0.attention2"),
        (with_a_shorter_trunk, r"lacks encoder_image2.net.6.1.bn1.bias.*resnet18"),
        (with_a_flat_projection, r"has encoder_feat.projection.weight as \(\)"),
        (with_text_for_a_tensor, r"decoder.wdc.bias of the checkpoint is not a tensor"),
        (with_a_list_of_parameters, r"decoder.wdc of the checkpoint is not a pickled module: its _buffers"),
    ],
)
def test_parameter_that_does_not_fit_is_named(change, message, tmp_path):
    bad = content()
    change(bad)
    refuse(authors_modules.save(bad, tmp_path / "bad.pt"), message)


def test_another_word_map_is_refused(tmp_path):
    path = authors_modules.save(content(), tmp_path / "theirs.pt")
    with pytest.raises(
        ValueError, match=r"vocab_embedding.weight is for 8 words, the word map has 9: give the"
    ):
        import_authors.main(command(path, [*WORDS, "more"]))


def test_unused_parameters_of_the_authors_code_may_be_missing(tmp_path):
    theirs = content()
    layer, decoder = theirs["encoder_feat"].transformer[0], theirs["decoder"]
    del (
        layer.attention,
        layer.linear1,
        layer.linear2,
        layer.norm1,
        layer.norm2,
        theirs["encoder_feat"].embedding_1D,
    )
    del decoder.transformer.layers[0].multihead_attn2, decoder.transformer.layers[0].norm2
    del decoder.position_encoding.embedding_1D
    theirs["encoder_image_optimizer"] = None
    decoder.again = decoder  # a module inside itself ends, too
    import_authors.main(command(authors_modules.save(theirs, tmp_path / "theirs.pt")))
    assert load_checkpoint(tmp_path / "ours.pt")["epoch"] == 7


def test_the_checkpoint_is_not_overwritten(tmp_path):
    path = authors_modules.save(content(), tmp_path / "theirs.pt")
    with pytest.raises(ValueError, match="--output .*theirs.pt must not be the input file"):
        import_authors.main([*command(path)[:-1], str(path)])
    with pytest.raises(FileNotFoundError, match="gone.pt not found: give a checkpoint of the authors' code"):
        import_authors.main(command(tmp_path / "gone.pt"))


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_errors_of_the_command_are_one_line(tmp_path):
    torch.save(Hostile(tmp_path / "mark"), tmp_path / "bad.pt")
    argv = [sys.executable, "tools/import_authors.py", *command(tmp_path / "bad.pt")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=CONFIGS.parent)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "bad.pt is refused (it holds posix.mkdir)" in done.stderr
    assert not (tmp_path / "mark").exists()
