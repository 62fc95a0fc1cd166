"""Beam search on a decoder that is a table, compared with a naive implementation and with all captions."""

import itertools
import random
from dataclasses import dataclass

import pytest
import torch

from models.beam_search import beam_search

START, END = 1, 2


@dataclass
class Table:
    """A decoder with random next-word log-probabilities for each pair and prefix."""

    vocabulary: int = 4
    seed: int = 0
    sharpness: float = 2.0

    def row(self, pair: int, prefix: tuple[int, ...]) -> torch.Tensor:
        generator = random.Random(f"{self.seed} {pair} {prefix}")
        logits = [self.sharpness * generator.gauss(0, 1) for _ in range(self.vocabulary)]
        return torch.tensor(logits).log_softmax(-1)

    def start(self, memory):
        return Prefixes([(int(pair), ()) for pair in memory])

    def step(self, tokens, state):
        assert tokens.numel() == len(state.beams)
        beams = [
            (pair, (*prefix, token))
            for (pair, prefix), token in zip(state.beams, tokens.flatten().tolist(), strict=True)
        ]
        rows = torch.stack([self.row(*beam) for beam in beams])
        return rows.view(*tokens.shape, -1), Prefixes(beams)


@dataclass
class Prefixes:
    beams: list[tuple[int, tuple[int, ...]]]

    def reorder(self, indices):
        for row in indices.tolist():
            assert len({self.beams[i][0] for i in row}) == 1  # a row holds beams of one pair
        return Prefixes([self.beams[i] for i in indices.flatten().tolist()])


def search(table, pairs, beam_size, max_steps=6, best=1):
    return beam_search(
        table, torch.tensor(pairs), start=START, end=END, beam_size=beam_size, max_steps=max_steps, best=best
    )


def authors_rule(table, pair, beam_size, max_steps):
    """A naive beam search of one pair: (words, score, finished), finished captions first."""
    alive, finished = [((START,), 0.0)], []
    width = min(beam_size, table.vocabulary)
    for _ in range(max_steps):
        candidates = [
            ((*words, token), score + log_prob)
            for words, score in alive
            for token, log_prob in enumerate(table.row(pair, words).tolist())
        ]
        taken = sorted(candidates, key=lambda c: -c[1])[: width - len(finished)]
        finished += [(words[1:-1], score, True) for words, score in taken if words[-1] == END]
        alive = [(words, score) for words, score in taken if words[-1] != END]
        if not alive:
            break
    unfinished = [(words[1:], score, False) for words, score in alive]
    return sorted(finished, key=lambda h: -h[1]) + sorted(unfinished, key=lambda h: -h[1])


def assert_same(actual, expected):
    assert [tuple(h.tokens) for h in actual] == [words for words, _, _ in expected]
    assert [h.finished for h in actual] == [finished for _, _, finished in expected]
    assert [h.log_prob for h in actual] == pytest.approx([score for _, score, _ in expected], abs=1e-5)


@pytest.mark.parametrize("beam_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("seed", range(8))
def test_every_answer_follows_the_authors_rule(beam_size, seed):
    table = Table(vocabulary=5, seed=seed)
    actual = search(table, list(range(7)), beam_size, best=beam_size)
    for pair, answers in enumerate(actual):
        assert_same(answers, authors_rule(table, pair, beam_size, 6))


@pytest.mark.parametrize("beam_size", [1, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_early_stop_does_not_change_the_best_answer(beam_size, seed):
    table = Table(vocabulary=5, seed=seed, sharpness=4.0)
    for best in (1, 2):
        for pair, answers in enumerate(search(table, list(range(7)), beam_size, best=best)):
            assert_same(answers, authors_rule(table, pair, beam_size, 6)[:best])


@pytest.mark.parametrize("seed", range(5))
def test_wide_beams_find_the_best_caption_of_all(seed):
    """With more beams than captions nothing is pruned, so the search must find the best caption."""
    table, steps = Table(vocabulary=3, seed=seed, sharpness=0.3), 3
    scores = {}
    for length in range(steps):
        for words in itertools.product([0, START], repeat=length):
            prefix, score = (START,), 0.0
            for word in (*words, END):
                score += table.row(0, prefix)[word].item()
                prefix += (word,)
            scores[words] = score
    best = max(scores, key=scores.get)
    wide = WideTable(table)
    answer = search(wide, [0], beam_size=wide.vocabulary, max_steps=steps)[0][0]
    assert tuple(answer.tokens) == best
    assert answer.log_prob == pytest.approx(scores[best], abs=1e-5)


class WideTable(Table):
    """The same table with many impossible words: V, which caps the beams, exceeds the number of captions."""

    def __init__(self, table: Table):
        super().__init__(vocabulary=40, seed=table.seed)
        self.table = table

    def row(self, pair, prefix):
        row = torch.full((self.vocabulary,), -1e9)
        if all(token < self.table.vocabulary for token in prefix):
            row[: self.table.vocabulary] = self.table.row(pair, prefix)
        return row


def test_batched_equals_one_by_one():
    table = Table(vocabulary=6, seed=3)
    together = search(table, [4, 1, 1, 9, 0], 3)
    assert together == [search(table, [pair], 3)[0] for pair in [4, 1, 1, 9, 0]]


def test_one_beam_is_argmax():
    table = Table(vocabulary=6, seed=1)
    words, score = (START,), 0.0
    while len(words) <= 6 and words[-1] != END:
        row = table.row(0, words)
        words, score = (*words, int(row.argmax())), score + row.max().item()
    answer = search(table, [0], 1)[0][0]
    assert tuple(answer.tokens) == tuple(w for w in words[1:] if w != END)
    assert answer.log_prob == pytest.approx(score, abs=1e-5)


class Fixed(Table):
    """A decoder with the same probabilities after every prefix."""

    def __init__(self, probabilities):
        super().__init__(vocabulary=len(probabilities))
        self.log_probs = torch.tensor(probabilities).log()

    def row(self, pair, prefix):
        return self.log_probs


def test_end_can_come_first():
    answer = search(Fixed([0.1, 0.1, 0.7, 0.1]), [0], 2)[0][0]
    assert (answer.tokens, answer.finished) == ([], True)


def test_without_finished_beams_the_best_unfinished_one_is_returned():
    answer = search(Fixed([0.9, 0.09, 1e-12, 0.01]), [0, 1], 2, max_steps=5)[1][0]
    assert (answer.tokens, answer.finished) == ([0] * 5, False)


def test_more_beams_than_words_are_capped():
    table = Table(vocabulary=3, seed=2)
    assert search(table, [0, 1], 50, best=50) == search(table, [0, 1], 3, best=3)


def test_no_pairs_no_answers():
    assert search(Table(), torch.empty(0, dtype=torch.long).tolist(), 2) == []


def test_first_finished_of_equal_scores_wins():
    """Both captions have the score log 0.5."""

    class Equal(Table):
        def row(self, pair, prefix):
            rows = {(START,): [0.5, 0.0, 0.5, 0.0], (START, 0): [0.0, 0.0, 1.0, 0.0]}
            return torch.tensor(rows.get(prefix, [0.25] * 4)).clamp_min(1e-30).log()

    answers = search(Equal(), [0], 2, best=2)[0]
    assert [h.tokens for h in answers] == [[], [0]]
    assert answers[0].log_prob == pytest.approx(answers[1].log_prob)
