"""Scores of the captions of splits."""

from tools.engine.evaluation import warn_of_other_sentences


def test_references_without_a_no_change_sentence_cause_a_warning(capsys):
    pairs = [{"changed": True, "references": ["a road"]}, {"changed": False, "references": ["all alike"]}]
    warn_of_other_sentences(pairs, ["no change"])
    assert "none of the unchanged pairs (1) has a no-change sentence" in capsys.readouterr().err
    warn_of_other_sentences(pairs, ["no change", "all alike"])
    warn_of_other_sentences(pairs[:1], [])
    assert capsys.readouterr().err == ""
