"""Attention equals that of torch; the weights and gates of MGCA are those of the forward pass."""

import imageio.v3 as iio
import pytest
import torch
import torch.nn.functional as F

import caption
from data.vocabulary import END, PAD, UNK, Vocabulary
from data.vocabulary import START as START_WORD
from models.attention import Attention
from tests.helpers.tiny import AUTHORS, START, VOCABULARY_SIZE, random_tokens, random_views, tiny_model
from tools.engine.predictor import explain_caption

VARIANTS = pytest.mark.parametrize("variant", [{}, AUTHORS], ids=["paper", "authors"])


@torch.no_grad()
def test_returned_weights_are_those_of_the_attention_output():
    torch.manual_seed(0)
    attention = Attention(16, 2, dropout=0.5).eval()
    queries = attention.queries(torch.randn(3, 5, 16))
    keys, _ = attention.keys_values(torch.randn(3, 9, 16))
    one_hot = torch.eye(9).expand(3, 2, 9, 9)  # values that say where they stand
    expected = F.scaled_dot_product_attention(queries, keys, one_hot).mean(dim=1)
    torch.testing.assert_close(attention.weights(queries, keys), expected)


@torch.no_grad()
@VARIANTS
def test_attention_sums_to_one_and_gates_lie_between_zero_and_one(variant):
    seen = tiny_model(**variant).eval().explain(random_views(2), random_tokens(2, 3, 6))
    assert list(seen.grids) == ["rgb", "sem"]
    assert list(seen.gates) == ["rgb", "sem", "word"]
    for weights in seen.grids.values():
        assert weights.shape == (2, 3, 6, 9)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 6))
    for gate in seen.gates.values():
        assert gate.shape == (2, 3, 6)
        assert ((gate > 0) & (gate < 1)).all()


@torch.no_grad()
@VARIANTS
def test_attention_and_gates_are_those_of_the_forward_pass(variant):
    """Recomputed with torch's attention from the inputs of MGCA in the forward pass."""
    model, views, tokens = tiny_model(**variant).eval(), random_views(2), random_tokens(2, 3, 6)
    mgca, entered = model.decoder.mgca, []
    mgca.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    memory = model.encode(views)
    model.decoder(tokens, memory)
    (s,) = entered
    seen = model.explain(views, tokens)

    def torch_attention(ours, memory):
        reference = torch.nn.MultiheadAttention(32, 2, batch_first=True)
        reference.in_proj_weight.data, reference.in_proj_bias.data = ours.in_proj.weight, ours.in_proj.bias
        reference.out_proj.load_state_dict(ours.out_proj.state_dict())
        return reference(s, memory, memory)

    a_rgb, over_rgb = torch_attention(mgca.attend_rgb, memory[:, 0])
    a_sem, over_sem = torch_attention(mgca.attend_sem, memory[:, 1])
    g1 = mgca.gate_rgb(torch.cat([s, a_rgb], dim=-1)).sigmoid()
    g2 = mgca.gate_sem(torch.cat([s, a_sem], dim=-1)).sigmoid()
    g3 = mgca.gate_word(s).sigmoid()
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(seen.grids["rgb"].flatten(1, 2), over_rgb, **close)
    torch.testing.assert_close(seen.grids["sem"].flatten(1, 2), over_sem, **close)
    for gate, expected in zip(seen.gates.values(), (g1, g2, g3), strict=True):
        torch.testing.assert_close(gate.flatten(1, 2), expected.mean(dim=-1), **close)


@torch.no_grad()
def test_later_words_do_not_change_earlier_attention():
    model, views, tokens = tiny_model().eval(), random_views(2), random_tokens(2, 1, 6)
    changed = tokens.clone()
    changed[..., 4:] = START
    before, after = model.explain(views, tokens), model.explain(views, changed)
    torch.testing.assert_close(
        before.grids["rgb"][..., :4, :], after.grids["rgb"][..., :4, :], rtol=0, atol=1e-6
    )
    assert not torch.allclose(before.gates["rgb"][..., 4], after.gates["rgb"][..., 4])


VOCABULARY = Vocabulary([PAD, *"abcdefgh", UNK, START_WORD, END])


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("a b", ["a", "b", END]),
        ("", [END]),
        ("a <unk> b", ["a", UNK, "b", END]),
        ("a b c d e f g h a", ["a", "b", "c", "d", "e", "f", "g", "h", "a"]),  # it never came to its end
    ],
)
def test_every_word_of_a_caption_has_its_attention(sentence, words):
    assert len(VOCABULARY) == VOCABULARY_SIZE
    views = random_views(1)[0].numpy()
    seen = explain_caption(tiny_model().eval(), VOCABULARY, views, sentence)
    assert seen.words == words
    assert seen.rgb.shape == seen.sem.shape == (len(words), 3, 3)
    assert seen.gates.shape == (len(words), 3)


def test_the_picture_of_a_caption(tiny_run, demo_input, tmp_path, capsys):
    test = demo_input.parent / "dataset" / "test"
    name = min(path.name for path in (test / "rgb" / "A").iterdir())
    pair = [str(test / view / name) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B")]
    command = ["--checkpoint", str(tiny_run / "best.pt"), "--decode.beam_size", "1"]
    caption.main([*pair, *command, "--attention", str(tmp_path / "new" / "words.png")])
    assert iio.imread(tmp_path / "new" / "words.png").std() > 10
    assert f"attention in {tmp_path / 'new' / 'words.png'}" in capsys.readouterr().err
    (tmp_path / "pairs.csv").write_text(f"img_A,img_B\n{pair[0]},{pair[1]}\n")
    with pytest.raises(ValueError, match="--picture and --attention draw one pair"):
        caption.main(["--pairs", str(tmp_path / "pairs.csv"), *command, "--attention", "words.png"])
