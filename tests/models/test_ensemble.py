"""Ensembles: the mean of the members' log-probabilities, compared with all captions of tables."""

import itertools

import pytest
import torch

from models.beam_search import beam_search
from models.ensemble import Ensemble, EnsembleDecoder, Memories
from tests.helpers.tiny import END, PAD, START, random_views, tiny_model
from tests.models import test_beam_search as tables

MEMBERS, STEPS = 3, 3


class WideTable(tables.Table):
    """Two words, <start> and <end>, and many impossible words, so that V beams prune nothing."""

    def row(self, pair, prefix):
        row = super().row(pair, prefix)
        return torch.cat([row, torch.full((30,), -torch.inf)])


def mean_log_prob(decoders, pair, words):
    total, prefix = 0.0, (tables.START,)
    for word in (*words, tables.END):
        total += sum(decoder.row(pair, prefix)[word].item() for decoder in decoders) / len(decoders)
        prefix += (word,)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_the_search_finds_the_best_captions_of_the_mean_of_all_members(seed):
    decoders = [
        WideTable(vocabulary=4, seed=MEMBERS * seed + index, sharpness=0.5) for index in range(MEMBERS)
    ]
    memory = Memories(tuple(torch.arange(2) for _ in decoders))
    wide = {"start": tables.START, "end": tables.END, "beam_size": 34, "max_steps": STEPS, "best": 3}
    for pair, answers in enumerate(beam_search(EnsembleDecoder(decoders), memory, **wide)):
        scores = {}
        for length in range(STEPS):
            for words in itertools.product([0, tables.START, 3], repeat=length):
                scores[words] = mean_log_prob(decoders, pair, words)
        expected = sorted(scores, key=scores.get, reverse=True)[:3]
        assert [tuple(answer.tokens) for answer in answers] == expected
        assert [answer.log_prob for answer in answers] == pytest.approx([scores[words] for words in expected])


def test_a_member_alone_and_repeated_gives_its_own_captions():
    model, views = tiny_model().eval(), random_views(3)
    search = {"start": START, "end": END, "beam_size": 3, "best": 2}
    expected = model.caption(views, **search)
    for members in ([model], [model, model]):
        for answers, others in zip(Ensemble(members).caption(views, **search), expected, strict=True):
            assert [answer.tokens for answer in answers] == [other.tokens for other in others]
            log_probs = [other.log_prob for other in others]
            assert [answer.log_prob for answer in answers] == pytest.approx(log_probs, abs=1e-4)


def unlike_models():
    first = tiny_model(max_length=6).eval()
    torch.manual_seed(7)
    second = tiny_model(width=24, modalities="rgb").eval()  # another memory, and images alone
    torch.nn.init.normal_(second.decoder.output.weight)
    return first, second


def test_members_may_be_different_models():
    first, second = unlike_models()
    ensemble = Ensemble([first, second])
    assert ensemble.settings.max_length == 6
    assert tuple(ensemble.views) == ("rgb_a", "rgb_b", "sem_a", "sem_b")
    views = random_views(2)
    answers = ensemble.caption(views, start=START, end=END, beam_size=3)
    for pair, (answer, *_) in enumerate(answers):
        words = [START, *answer.tokens, END] if answer.finished else [START, *answer.tokens]
        tokens, expected = torch.tensor([words]), 0.0
        for member in (first, second):
            memory = member.encode(views[pair : pair + 1])
            expected += member.sentence_log_probs(memory, tokens, PAD).item() / 2
        assert answer.log_prob == pytest.approx(expected, abs=1e-4)


def test_sentences_have_the_log_probability_of_the_search():
    for model in (unlike_models()[1], Ensemble(unlike_models())):
        views = random_views(3)
        memory = model.memory(views)
        for pair, answers in enumerate(model.search(memory, start=START, end=END, beam_size=3, best=3)):
            longest = max(len(answer.tokens) for answer in answers) + 2
            tokens = torch.full((len(answers), longest), PAD)
            for row, answer in enumerate(answers):
                words = [START, *answer.tokens] + [END] * answer.finished
                tokens[row, : len(words)] = torch.tensor(words)
            log_probs = model.sentence_log_probs(memory, tokens, PAD)
            assert log_probs.shape == (3, 3)
            expected = [answer.log_prob for answer in answers]
            assert log_probs[pair].tolist() == pytest.approx(expected, abs=1e-4)
