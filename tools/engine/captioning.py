"""Caption all pairs of a split, and make the entries of captions.json."""

from torch.utils.data import Subset

from configs import Config
from data.dataset import ChangeCaptions, make_loader
from data.splits import Reader
from data.vocabulary import Vocabulary
from models.beam_search import Hypothesis
from models.captioner import Captioner, inputs_of
from models.precision import autocast
from tools.engine.distributed import Agree, Processes
from tools.engine.progress_bar import progress_bar
from tools.scoring.meteor import Meteor
from tools.scoring.results import CaptionEntry


def predict(
    model: Captioner,
    samples: ChangeCaptions,
    vocabulary: Vocabulary,
    config: Config,
    processes: Processes,
    meteor: Meteor | None = None,
    beam_size: int | None = None,
    agree: Agree | None = None,
) -> list[Hypothesis]:
    """The best caption of each pair, in order.

    The pairs are divided among the processes; each process returns all captions. meteor: scores the captions
    of a batch while the next one is decoded. agree: called between batches.
    """
    model.eval()
    share = Subset(samples, range(processes.rank, len(samples), processes.count))
    loader = make_loader(share, config.data, batch_size=config.decode.batch_size)
    local_captions = []
    bar = progress_bar(description="captioning", total=len(share), unit="pair", shown=processes.writes)
    for batch in processes.in_step(loader, len(samples), agree):
        with autocast(model.device, config.decode.precision):
            answers = model.caption(
                **inputs_of(batch, model.device),
                start=vocabulary.start,
                end=vocabulary.end,
                beam_size=beam_size or config.decode.beam_size,
            )
        best = [ranked[0] for ranked in answers]
        if meteor:
            segments = []
            for hypothesis, row in zip(best, batch["index"].tolist(), strict=True):
                segments.append((vocabulary.decode(hypothesis.tokens), tuple(samples.reader.references[row])))
            meteor.submit(segments)
        local_captions += best
        bar.update(len(answers))
    bar.close()
    captions = [None] * len(samples)
    for rank, captions_of_rank in enumerate(processes.gather(local_captions)):
        captions[rank :: processes.count] = captions_of_rank
    return captions


def to_captions(
    hypotheses: list[Hypothesis], samples: ChangeCaptions, vocabulary: Vocabulary
) -> list[CaptionEntry]:
    """The entries of captions.json without scores, one per pair in order."""
    entries = []
    for row, hypothesis in zip(samples.rows, hypotheses, strict=True):
        caption = vocabulary.decode(hypothesis.tokens)
        entries.append(caption_entry(samples.reader, row, caption, log_prob=hypothesis.log_prob))
    return entries


def caption_entry(reader: Reader, row: int, caption: str, log_prob: float | None = None) -> CaptionEntry:
    """An entry of captions.json without scores: the pair in a row of the file and its caption."""
    return {
        "filename": reader.filenames[row],
        "caption": caption,
        **({} if log_prob is None else {"log_prob": log_prob}),
        "references": reader.references[row],
        "changed": bool(reader.changed[row]),
        **({} if reader.has_human_words else {"references_are": "the stored captions"}),
    }
