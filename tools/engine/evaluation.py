"""Score the captions of splits, whoever wrote them; write scores.json and captions.json, print the tables."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs import Config
from data.errors import UserError
from data.hdf5 import VIEWS
from data.no_change import sentences_in_use
from data.splits import Reader, open_split
from data.vocabulary import Vocabulary
from tools.engine.checkpoint import Content
from tools.engine.true_maps import add_map_scores
from tools.scoring import AuthorsRecord, Record, pair_scores, score, sources_of
from tools.scoring.baselines import TrainingCaptions, training_captions
from tools.scoring.bootstrap import resampling_counts
from tools.scoring.change_scores import change_scores
from tools.scoring.fact_scores import add_facts
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import optional_metrics
from tools.scoring.results import CaptionEntry, CaptionScores, Evaluation, write_captions, write_scores
from tools.scoring.table import format_table

WITHOUT_CHECKPOINT: Mapping[str, tuple[str, ...]] = {"no_change": ()}  # for `score_captions`


def score_captions(
    captions: list[CaptionEntry],
    splits: Sequence[tuple[Reader, list[int]]],
    content: Content | Mapping,
    config: Config,
    meteor: Meteor,
) -> CaptionScores:
    """The content of scores.json. Adds each pair's own scores and facts to `captions`.

    captions: of the pairs in use of all splits, in order. content: the checkpoint's, WITHOUT_CHECKPOINT for
    captions that another program wrote.
    """
    pairs, data_sentences = [], {}
    for reader, rows in splits:
        pairs += [(reader, row) for row in rows]
        data_sentences |= dict.fromkeys(reader.no_change)
    records, authors, map_changed = [], [], []
    for entry, (reader, row) in zip(captions, pairs, strict=True):
        caption, source = entry["caption"], reader.sources[row]
        records.append(Record(entry["filename"], caption, entry["references"], entry["changed"], source))
        authors.append(authors_record(caption, reader, row))
        map_changed.append(bool(reader.views(row)[VIEWS.index("sem_b")].any()))
    human_words = all(reader.has_human_words for reader, _ in splits)
    training, no_training = floor_candidates(content, config, human_words, meteor)
    scores = score(
        records,
        meteor,
        no_change=sentences_in_use(config.data.no_change, content, tuple(data_sentences)),
        training=training,
        no_training=no_training,
        authors=authors,
        decisions={'rule "the given map B is not empty"': map_changed},
        human_words=human_words,
        optional=optional_metrics(),
        facts=config.data.facts,
    )
    add_change_scores(scores, captions, records, calibrated=content.get("change_temperature") is not None)
    for entry, scores_of_pair in zip(captions, pair_scores(records, meteor), strict=True):
        entry["scores"] = scores_of_pair
    if human_words:
        add_facts(captions, config.data.facts)
        add_map_scores(scores, captions, pairs, config.data.facts)
    return scores


def add_change_scores(
    scores: CaptionScores, captions: list[CaptionEntry], records: Sequence[Record], *, calibrated: bool
) -> None:
    """Add the scores of the probabilities of a change, if every caption has one."""
    probabilities = [entry.get("change_probability") for entry in captions]
    if None in probabilities:
        return
    bootstrap = scores["bootstrap"]
    counts = resampling_counts(len(records), bootstrap["resamples"], bootstrap["seed"], sources_of(records))
    changed = [record.changed for record in records]
    scores["change"] = change_scores(probabilities, changed, counts, calibrated=calibrated)


def publish(
    scores: CaptionScores, captions: list[CaptionEntry], evaluation: Evaluation, output: Path | None
) -> None:
    """Write scores.json and captions.json to the folder `output` if there is one, and print the tables."""
    try:
        if output:
            output.mkdir(parents=True, exist_ok=True)
            write_captions(output / "captions.json", captions)
            write_scores(output / "scores.json", {**scores, "evaluation": evaluation})
    finally:  # print the scores even if the disk is full
        print(format_table(scores))
    warn_of_other_sentences(captions, scores["no_change"])
    distinct = len({entry["caption"] for entry in captions})
    files = f"; scores.json and captions.json in {output}" if output else ""
    print(f"\npairs: {len(captions)}, distinct captions: {distinct}{files}")


def floor_candidates(
    content: Content | Mapping, config: Config, human_words: bool, meteor: Meteor
) -> tuple[TrainingCaptions | None, str]:
    """The training captions that the floors are chosen from, or None and the reason.

    Without a checkpoint, and for imported ones and those of earlier versions, which hold no training
    captions, they are read from the train split in `data.dir`. Without human words there are no floors.
    """
    if content.get("train_captions"):
        return TrainingCaptions(content["train_captions"], content["train_constants"], "the checkpoint"), ""
    if not human_words:
        return None, ""
    try:
        reader, rows = open_split("train", config.data)
    except (OSError, UserError) as error:
        reason = "data.dir has no training captions to choose them from"
        if content is not WITHOUT_CHECKPOINT:
            reason = "the checkpoint holds no training captions, and data.dir has none to read instead"
        return None, f"no floors: {reason} ({error})"
    return training_captions(reader, rows, meteor), ""


def warn_of_other_sentences(captions: list[CaptionEntry], no_change: list[str]) -> None:
    """Print a warning if no unchanged pair has a no-change sentence among its references."""
    unchanged = [entry["references"] for entry in captions if not entry["changed"]]
    if unchanged and not any(set(no_change) & set(references) for references in unchanged):
        print(
            f"WARNING: none of the unchanged pairs ({len(unchanged)}) has a no-change sentence among its "
            "references: check data.no_change, which decides which captions mean no change",
            file=sys.stderr,
        )


def authors_record(caption: str, reader: Reader, row: int) -> AuthorsRecord:
    """A pair as the authors' code scores it: references decoded from stored ids, METEOR on ids as text."""
    references = [reader.vocabulary.decode(ids) for ids in reader.tokens[row]]
    caption_ids, *reference_ids = (
        id_string(sentence, reader.vocabulary) for sentence in [caption, *references]
    )
    return AuthorsRecord(caption, references, caption_ids, reference_ids, reader.sources[row])


def id_string(sentence: str, vocabulary: Vocabulary) -> str:
    """ "the scene is" -> "12 5 88"."""
    words = sentence.split()
    return " ".join(str(token) for token in vocabulary.encode(words, len(words))[1:-1])
