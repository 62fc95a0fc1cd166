"""Facts against maps: the captions of an evaluation, checked against the given maps of the pairs."""

from collections.abc import Sequence

from data.palette import SECOND, classes_by_date
from data.splits import Reader
from tools.scoring.baselines import split_parts
from tools.scoring.fact_scores import measurable_facts
from tools.scoring.map_facts import MapFacts, map_scores, transitions
from tools.scoring.results import CaptionEntry, CaptionScores

PARTS = ("all", "changed")  # the maps of unchanged pairs show no change
VOID_MAPS = "no facts against maps: the maps of the input files show no class"
OTHER_CLASSES = "no facts against maps: they have other classes than those that word lists name (map_classes)"


def add_map_scores(
    scores: CaptionScores, entries: Sequence[CaptionEntry], pairs: Sequence[tuple[Reader, int]], setting: str
) -> None:
    """Add "maps" to the scores: the facts of persons, model and floor against the maps of the pairs.

    entries: the captioned pairs. pairs: the split and the row of each. setting: `data.facts`. Where there are
    no facts or no maps, `reasons` says why.
    """
    scores["maps"] = None
    changed = [entry["changed"] for entry in entries]
    facts, reason = measurable_facts(setting, [entry["references"] for entry in entries if entry["changed"]])
    palette = pairs[0][0].maps.palette
    known = classes_by_date((reader.views(row)[2:] for reader, row in pairs), palette)
    if not known.before and not known.after:
        reason = reason or VOID_MAPS
    elif palette.names != SECOND.names:
        reason = reason or OTHER_CLASSES
    if reason:
        scores["reasons"]["maps"] = reason
        return
    checker = MapFacts(known, facts.reader)
    areas = [transitions(*palette.map_classes(reader.views(row)[2:])) for reader, row in pairs]
    members = split_parts(list(zip(entries, areas, strict=True)), changed)
    scores["maps"] = {}
    for part in PARTS:
        captions = {
            "human": [(text, area) for entry, area in members[part] for text in entry["references"]],
            "ours": [(entry["caption"], area) for entry, area in members[part]],
        }
        if scores["floor"] and scores["floor"][part]:
            constant = scores["floor"][part]["caption"]
            captions["floor"] = [(constant, area) for _, area in members[part]]
        scores["maps"][part] = {}
        for column, texts in captions.items():
            checked = (checker.check(text, area) for text, area in texts)
            scores["maps"][part][column] = map_scores(checked)
