import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from tools.scoring import metrics
from tools.scoring.bootstrap import resampling_counts
from tools.scoring.cider import cider_rows, has_idf
from tools.scoring.meteor import Meteor
from tools.scoring.metric import Segment
from tools.scoring.metrics import AVERAGED, METRICS, Measured, measure, scores_from_sums

WORDS = ["a", "the", "road", "house", "tree", "is", "built", "near", "river", "some", "appears"]


@pytest.fixture
def no_java(tmp_path: Path) -> Iterator[Meteor]:
    """METEOR without Java, which fails immediately."""
    with Meteor(java=tmp_path / "absent") as meteor:
        yield meteor


def random_corpus(pairs: int, seed: int = 0) -> list[Segment]:
    """Captions of 0 to 8 words with one to five references, some pairs repeated."""
    draw = random.Random(seed)

    def sentence(shortest: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(shortest, 8)))

    corpus = []
    for _ in range(pairs):
        caption = sentence(0)
        corpus.append((caption, tuple(sentence(1) for _ in range(draw.randint(1, 5)))))
    return corpus + corpus[: pairs // 4]


def corpus_score(segments: list[Segment], meteor: Meteor, metric: str) -> float:
    return float(measure(segments, meteor).scores(np.ones(len(segments)))[metric])


def packaged_scores(segments: list[Segment]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """pycocoevalcap's scores of the corpus and of each pair, x 100."""
    references = {key: list(segment[1]) for key, segment in enumerate(segments)}
    captions = {key: [caption] for key, (caption, _) in enumerate(segments)}
    bleu, each_bleu = Bleu(4).compute_score(references, captions, verbose=0)
    rouge, each_rouge = Rouge().compute_score(references, captions)
    cider, each_cider = Cider().compute_score(references, captions)
    corpus = dict(zip(METRICS, [*bleu, None, rouge, cider], strict=True))
    each = {"bleu_4": np.array(each_bleu[3]), "rouge_l": each_rouge, "cider": each_cider}
    return {k: 100 * v for k, v in corpus.items() if v is not None}, {k: 100 * v for k, v in each.items()}


def test_scores_equal_the_packaged_ones(no_java):
    segments = random_corpus(60)
    measured = measure(segments, no_java)
    corpus, each = packaged_scores(segments)
    assert measured.scores(np.ones(len(segments))) == pytest.approx(corpus, abs=1e-9)
    texts = scores_from_sums(measured.rows)
    for metric, expected in each.items():
        assert texts[metric] == pytest.approx(expected, abs=1e-9)


def test_resampled_scores_equal_those_of_the_corpus_written_out(no_java):
    segments = random_corpus(30, seed=1)
    counts = resampling_counts(len(segments), resamples=3, seed=0)
    resampled = measure(segments, no_java).scores(counts)
    for row, repeats in enumerate(counts.astype(int)):
        written_out = [s for s, times in zip(segments, repeats, strict=True) for _ in range(times)]
        expected, _ = packaged_scores(written_out)
        for metric in (*METRICS[:4], "rouge_l"):
            assert resampled[metric][row] == pytest.approx(expected[metric], abs=1e-9)


@pytest.mark.parametrize(
    ("caption", "references", "bleu_1", "bleu_2"),
    [
        ("a b c d", ["a b c d e"], math.exp(1 - 5 / 4), math.exp(1 - 5 / 4)),  # too short: brevity penalty
        ("a b c d", ["a b c d e", "x y z"], 1, 1),  # 3 and 5 words are as close: the shorter counts
        ("a a b", ["a b"], 2 / 3, math.sqrt(2 / 3 * 1 / 2)),  # the second "a" has no partner
        ("a b a b", ["a b c d", "b a d c"], 2 / 4, math.sqrt(2 / 4 * 2 / 3)),
        ("", ["a b"], 0, 0),
    ],
)
def test_bleu_by_hand(no_java, caption, references, bleu_1, bleu_2):
    segments = [(caption, tuple(references))]
    assert corpus_score(segments, no_java, "bleu_1") == pytest.approx(100 * bleu_1, abs=1e-4)
    assert corpus_score(segments, no_java, "bleu_2") == pytest.approx(100 * bleu_2, abs=1e-4)


def test_rouge_l_by_hand(no_java):
    """Three words in common order: precision 3/4, recall 3/5, recall weighted by 1.2 squared."""
    precision, recall, beta = 3 / 4, 3 / 5, 1.2
    expected = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    actual = corpus_score([("a b c d", ("a c x d y",))], no_java, "rouge_l")
    assert actual == pytest.approx(100 * expected)


def test_cider_of_perfect_captions_is_ten(no_java):
    segments = [(caption, (caption,)) for caption in ("a road is built", "some houses appear here")]
    assert corpus_score(segments, no_java, "cider") == pytest.approx(100 * 10)


def test_cider_of_a_part_has_its_own_frequencies(no_java):
    """N-grams of all pairs of a part have weight 0 in that part, though not in all pairs together."""
    roads = [("a road", ("a road",)), ("a road is built", ("a road is built",))]
    houses = [("some houses appear", ("some houses appear",))] * 2
    rows = measure(roads + houses, no_java).rows["cider"]
    part = measure(roads, no_java).rows["cider"]
    assert rows[0] > 4
    assert part[0] == 0


def test_s_m_is_the_mean_of_four(meteor):
    scores = measure(random_corpus(10), meteor).scores(np.ones(12))
    assert scores["s_m"] == pytest.approx(np.mean([scores[metric] for metric in AVERAGED]))


@pytest.mark.parametrize("pairs", [1, 3])
def test_cider_is_left_out_if_a_perfect_caption_would_have_0(meteor, pairs):
    references = [("no change", "all is the same"), ("all is the same", "no change"), ("no change",) * 9]
    references[2] += ("all is the same",)  # the same n-grams in another order and number
    segments = [("no change", texts) for texts in references[:pairs]]
    assert not has_idf([texts for _, texts in segments])
    assert (cider_rows(segments) == 0).all()
    measured = measure(segments, meteor)
    scores = measured.scores(np.ones(pairs))
    assert "cider" not in scores
    assert scores["s_m"] == pytest.approx(np.mean([scores["bleu_4"], scores["meteor"], scores["rouge_l"]]))
    assert list(measured.reasons()) == ["cider"]


def test_cider_has_a_value_if_references_differ(meteor):
    segments = [("no change", ("no change", "all is the same")), ("no change", ("no change",))]
    assert has_idf([texts for _, texts in segments])
    assert "cider" in measure(segments, meteor).scores(np.ones(2))
    assert cider_rows([("all is the same", texts) for _, texts in segments])[0] > 0


def test_other_metrics_without_java(no_java):
    measured = measure(random_corpus(5), no_java)
    scores = measured.scores(np.ones(6))
    assert set(scores) == set(METRICS) - {"meteor"}
    assert "could not be started" in measured.reasons()["meteor"]
    assert measured.reasons()["s_m"] == "not without meteor"


def test_missing_metric_leaves_no_mean():
    measured = Measured({"rouge_l": np.array([[0.5], [1.0]])}, {"cider": "it died"}, {})
    assert measured.scores(np.ones(2)) == {"rouge_l": 75}
    assert measured.reasons() == {"cider": "it died", "s_m": "not without cider"}


def test_meteor_may_be_given_other_words(meteor):
    words, ids = [("a <unk> b", ("a <unk> b",))] * 2, [("1 2 3", ("4 5 6",))] * 2
    assert corpus_score(words, meteor, "meteor") == 100
    measured = measure(words, meteor, meteor_segments=ids)
    assert measured.scores(np.ones(2))["meteor"] == 0


def test_empty_captions(meteor):
    scores = measure([("", ("a road", "roads")), ("", ("a house",))], meteor).scores(np.ones(2))
    assert scores == pytest.approx(dict.fromkeys((*METRICS, "s_m"), 0), abs=1e-6)


def test_the_registry_has_the_papers_metrics_and_spice_as_an_option():
    assert METRICS == ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider")
    assert AVERAGED == ("bleu_4", "meteor", "rouge_l", "cider")
    assert list(metrics.OPTIONAL_TITLES) == ["spice", "s_m_spice"]
    assert [metric.name for metric in metrics.optional_metrics()] == ["spice"]
