"""The decoder: MGCA against its equation, causality, and stepwise = teacher-forced."""

import torch
import torch.nn.functional as F

from models.decoder import Decoder, sinusoids
from tests.helpers.tiny import START, VOCABULARY_SIZE, random_tokens

WIDTH, TOKENS = 16, 9
MEMORY = torch.randn(3, 2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


def decoder(sharing="separate", dropout=0.0) -> Decoder:
    torch.manual_seed(0)
    return Decoder(
        modalities=("rgb", "sem"), vocabulary_size=VOCABULARY_SIZE, max_length=8, width=WIDTH, heads=2,
        feedforward=32, sharing=sharing, mgca=True, dropout=dropout, embedding_dropout=0.0,
    ).eval()  # fmt: skip


def test_sinusoids_follow_the_formula():
    table = sinusoids(5, 8)
    for position in range(5):
        for channel in range(4):
            angle = torch.tensor(position / 10000 ** (2 * channel / 8))
            torch.testing.assert_close(table[position, 2 * channel], angle.sin())
            torch.testing.assert_close(table[position, 2 * channel + 1], angle.cos())


@torch.no_grad()
def test_logits_equal_the_equations():
    model = decoder()
    tokens = random_tokens(3, 1, 6)
    w = model.embedding(tokens[:, 0]) + sinusoids(6, WIDTH)
    mask = torch.ones(6, 6).triu(1).bool()
    torch_attention = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def attend(ours, query, memory, mask=None):
        torch_attention.in_proj_weight.data, torch_attention.in_proj_bias.data = (
            ours.in_proj.weight,
            ours.in_proj.bias,
        )
        torch_attention.out_proj.load_state_dict(ours.out_proj.state_dict())
        return torch_attention(query, memory, memory, attn_mask=mask, need_weights=False)[0]

    s = model.self_attention_norm(w + attend(model.self_attention, w, w, mask))
    a_rgb = attend(model.mgca.attend_rgb, s, MEMORY[:, 0])
    a_sem = attend(model.mgca.attend_sem, s, MEMORY[:, 1])
    g1 = torch.sigmoid(model.mgca.gate_rgb(torch.cat([s, a_rgb], -1)))
    g2 = torch.sigmoid(model.mgca.gate_sem(torch.cat([s, a_sem], -1)))
    g3 = torch.sigmoid(model.mgca.gate_word(s))
    m = F.layer_norm(g1 * a_rgb + g2 * a_sem + g3 * s, (WIDTH,), model.mgca.norm.weight, model.mgca.norm.bias)
    expected = model.output(model.feedforward_norm(m + model.feedforward(m)))
    torch.testing.assert_close(model(tokens, MEMORY)[:, 0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_future_words_do_not_change_past_logits():
    model, tokens = decoder(), random_tokens(3, 2, 6)
    changed = tokens.clone()
    changed[..., 4:] = START
    before, after = model(tokens, MEMORY), model(changed, MEMORY)
    torch.testing.assert_close(before[..., :4, :], after[..., :4, :], rtol=0, atol=1e-6)
    assert not torch.allclose(before[..., 4, :], after[..., 4, :])


@torch.no_grad()
def test_captions_of_a_pair_are_independent():
    model, tokens = decoder(), random_tokens(3, 4, 6)
    alone = torch.cat([model(tokens[:, k : k + 1], MEMORY) for k in range(4)], dim=1)
    torch.testing.assert_close(model(tokens, MEMORY), alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_steps_with_the_cache_equal_one_pass():
    model, tokens = decoder("shared"), random_tokens(3, 2, 6)
    expected = model(tokens, MEMORY).log_softmax(-1)
    _, state = model.step(tokens[:, :1, 0], model.start(MEMORY))  # both beams begin as one
    first = tokens[:, :1, 0].expand(-1, 2)
    tokens[..., 0] = first
    expected = model(tokens, MEMORY).log_softmax(-1)
    state = state.reorder(torch.arange(3).unsqueeze(1).expand(-1, 2))
    for t in range(1, 6):
        log_probs, state = model.step(tokens[..., t], state)
        torch.testing.assert_close(log_probs, expected[..., t, :], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_reorder_moves_beams_and_drops_pairs():
    model, tokens = decoder(), random_tokens(3, 1, 1)
    _, state = model.step(tokens[..., 0], model.start(MEMORY))
    state = state.reorder(torch.tensor([[0, 0], [1, 1], [2, 2]]))
    second = random_tokens(3, 2, seed=1)
    _, state = model.step(second, state)
    state = state.reorder(
        torch.tensor([[1, 0], [5, 5]])
    )  # pair 1 leaves; pair 0 swaps its beams; pair 2 keeps one
    log_probs, _ = model.step(torch.tensor([[3, 4], [5, 6]]), state)
    prefixes = [[(0, 1, 3), (0, 0, 4)], [(2, 1, 5), (2, 1, 6)]]
    for row, beams in enumerate(prefixes):
        for beam, (pair, source, word) in enumerate(beams):
            words = torch.stack([tokens[pair, 0, 0], second[pair, source], torch.tensor(word)])
            expected = model(words.view(1, 1, -1), MEMORY[pair : pair + 1]).log_softmax(-1)[0, 0, -1]
            torch.testing.assert_close(log_probs[row, beam], expected, rtol=1e-4, atol=1e-5)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model, tokens = decoder(dropout=0.5), random_tokens(3, 1, 6)
    torch.testing.assert_close(model(tokens, MEMORY), model(tokens, MEMORY))
    model.train()
    assert not torch.allclose(model(tokens, MEMORY), model(tokens, MEMORY))
