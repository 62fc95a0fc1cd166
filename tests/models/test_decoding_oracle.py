"""Captions and log-probabilities equal those of the authors' procedure, which decodes one pair at a time and
recomputes every prefix. The procedure itself is tested too."""

import itertools
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from configs import TrainConfig
from data.images import stack_views
from data.maps.files import read_map, read_views
from data.sources import read_dataset
from data.synthetic import make_pair
from models.mmodalcc import MModalCC
from tests.helpers.tiny import (
    AUTHORS,
    END,
    PAD,
    START,
    VOCABULARY_SIZE,
    random_tokens,
    random_views,
    tiny_model,
)
from tools.engine.captioning_task import CaptionLoss
from tools.engine.distributed import Processes
from tools.engine.optimiser import make_optimiser
from tools.engine.training_steps import Progress, TrainingSteps
from tools.studies.authors_procedure import (
    authors_captions,
    authors_copy,
    authors_memory,
    authors_optimiser,
    authors_step,
)

pytestmark = pytest.mark.integration

VARIANTS = pytest.mark.parametrize("variant", [{}, AUTHORS], ids=["paper", "authors"])
BEAMS = pytest.mark.parametrize("beam_size", [1, 3, 4, 8])
LENGTHS = [0, 1, 2, 4, 5, 7, 8, 3]  # words of the captions that the eight demo pairs are trained_model


@cache
def demo_views() -> torch.Tensor:
    """Eight demo pairs, 32 x 32."""
    pairs = [make_pair(5, index) for index in range(len(LENGTHS))]
    return as_views([[p.rgb_a, p.rgb_b, read_map(p.sem_a)[0], read_map(p.sem_b)[0]] for p in pairs])


def as_views(pairs: list[list[np.ndarray]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([stack_views(views, (32, 32)) for views in pairs]))


@cache
def trained_model(authors: bool) -> MModalCC:
    """A model whose decoder was trained for a while on long and short captions of the demo pairs."""
    model = tiny_model(**(AUTHORS if authors else {})).eval()
    tokens = torch.full((len(LENGTHS), 1, 10), PAD)
    for row, words in enumerate(LENGTHS):
        tokens[row, 0, : words + 2] = torch.tensor([START, *random_tokens(words, seed=row), END])
    memory = model.encode(demo_views()).detach()
    optimiser = torch.optim.Adam(model.decoder.parameters(), lr=1e-2)
    for _ in range(60):
        logits = model.decoder(tokens[..., :-1], memory)
        loss = F.cross_entropy(logits.flatten(0, -2), tokens[..., 1:].flatten(), ignore_index=PAD)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def assert_same(model: MModalCC, views: torch.Tensor, beam_size: int, *batch_sizes: int) -> list[list]:
    """Compare every answer of every pair, whatever the batch size and however many answers are wanted.

    Scores may differ by rounding; answers that the oracle scores within 1e-5 of each other may change places.
    """
    plain = authors_copy(model)
    oracle = [authors_captions(plain, pair, start=START, end=END, beam_size=beam_size) for pair in views]
    for size, best in itertools.product(batch_sizes, {1, min(beam_size, VOCABULARY_SIZE)}):
        batches = views.split(size)
        actual = [
            model.caption(batch, start=START, end=END, beam_size=beam_size, best=best) for batch in batches
        ]
        for answers, expected in zip(itertools.chain(*actual), oracle, strict=True):
            assert len(answers) == best
            for answer, other in zip(answers, expected, strict=False):
                assert answer.log_prob == pytest.approx(other.log_prob, rel=1e-5, abs=1e-4)
                equals = [e for e in expected if abs(e.log_prob - other.log_prob) < 1e-5]
                assert (answer.tokens, answer.finished) in [(e.tokens, e.finished) for e in equals]
    return oracle


@BEAMS
@VARIANTS
def test_demo_pairs_with_early_and_late_finishers(variant, beam_size):
    actual = assert_same(trained_model(variant is AUTHORS), demo_views(), beam_size, 1, 3, 8)
    assert len({len(answers[0].tokens) for answers in actual}) > 3


@BEAMS
@pytest.mark.parametrize(("bias", "length", "finished"), [(-50, 9, False), (50, 0, True)])
def test_all_beams_unfinished_or_all_finished_at_once(beam_size, bias, length, finished):
    model = deepcopy(trained_model(False))
    model.decoder.output.bias.data[END] += bias
    for answers in assert_same(model, demo_views()[:4], beam_size, 3):
        assert (len(answers[0].tokens), answers[0].finished) == (length, finished)


@BEAMS
def test_identical_pairs_and_identical_dates(beam_size):
    views = demo_views()[[2, 2, 5]].clone()
    views[2, 1::2] = views[2, ::2]
    first, second, _ = assert_same(trained_model(False), views, beam_size, 3)
    assert [answer.tokens for answer in first] == [answer.tokens for answer in second]


def test_more_beams_than_words():
    assert_same(trained_model(False), demo_views()[:4], 50, 3)


@BEAMS
@VARIANTS
def test_random_pairs_and_weights(variant, beam_size):
    assert_same(tiny_model(**variant).eval(), random_views(3), beam_size, 2)


@pytest.mark.real
@pytest.mark.slow
@BEAMS
def test_real_pairs(real_pairs, beam_size):
    pairs = [pair for pair in read_dataset(real_pairs).pairs if pair.split == "test"][:12]
    assert_same(trained_model(False), as_views([read_views(pair.views) for pair in pairs]), beam_size, 5)


@VARIANTS
def test_a_trunk_call_for_each_view_gives_the_same_memory(variant):
    model = tiny_model(**variant).eval()
    plain = authors_copy(model)
    assert plain.encoder_rgb.trunk.conv1.weight.is_contiguous()
    memory = authors_memory(plain, demo_views())
    torch.testing.assert_close(memory, model.encode(demo_views()), rtol=1e-4, atol=1e-5)


@VARIANTS
def test_the_authors_step_has_our_loss_and_learns(variant):
    views, tokens = random_views(4), random_tokens(4, 7)
    tokens[0, 5:], tokens[1:, -1] = PAD, END
    ours = tiny_model(**variant).train()
    plain = authors_copy(ours)
    settings = TrainConfig()
    progress = Progress()
    batch = {"views": views, "tokens": tokens.unsqueeze(1), "index": torch.arange(4)}
    optimiser, loss = make_optimiser(ours, settings), CaptionLoss(PAD, "float32")
    TrainingSteps(ours, loss, optimiser, settings, progress, Processes()).take_and_wait(batch)
    optimiser = authors_optimiser(plain, 1e-3)
    losses = [authors_step(plain, views, tokens, optimiser, pad=PAD, clip=5.0) for _ in range(5)]
    assert losses[0] == pytest.approx(progress.loss / progress.count, rel=1e-4)
    assert losses[-1] < losses[0]
