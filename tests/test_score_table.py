from tools.meteor import Meteor
from tools.score_table import format_table
from tools.scoring import Record, ReleasedRecord, score
from tools.spice import Spice

SAME = "the scene is the same as before"
RECORDS = [
    Record("1.png", "a road is built", ("a road is built", "a new road"), True),
    Record("2.png", SAME, (SAME,), False),
    Record("3.png", SAME, (SAME, "there is no difference"), False),
]
RELEASED = [ReleasedRecord(r.caption, r.references, "1 2", ["1 2"]) for r in RECORDS]


def test_table_shows_every_column_of_every_part(meteor: Meteor):
    options = {"released": RELEASED, "decisions": {"map": [True, True, False]}, "resamples": 20}
    result = score(RECORDS, meteor, no_change=[SAME, "there is no difference"], **options)
    lines = format_table(result).splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in lines}
    for column in ("ours", "floor", "margin", "released"):
        assert rows["all", column][0] == "3"
        assert rows["unchanged", column][7] == "-"  # CIDEr
        assert rows["changed", column][0] == "1"
    assert rows["all", "ours"][1] == f"{result['ours']['all']['bleu_1']['value']:.1f}"
    assert rows["by", "the"][:2] == ["map", "66.7"]
    assert f'floor of all: "{SAME}"' in lines
    assert len({len(line) for line in lines[: lines.index("")]}) == 1  # aligned
    assert sum("no cider: left out" in line for line in lines) == 1


def test_table_says_what_is_missing(tmp_path):
    with Meteor(java=tmp_path / "absent") as broken:
        text = format_table(score(RECORDS[1:], broken, no_change=[SAME], resamples=20))
    assert "changed ours" not in text.replace("unchanged ours", "")
    assert "no meteor: MeteorError: Java could not be started" in text
    assert "no s_m: not without meteor" in text
    assert "-0.0" not in text


def test_absent_spice_is_one_short_line(meteor: Meteor, tmp_path):
    options = {"released": RELEASED, "spice": Spice(tmp_path), "resamples": 2}
    lines = format_table(score(RECORDS, meteor, no_change=[SAME], **options)).splitlines()
    said = [line for line in lines if "spice" in line]
    assert said == ["no spice: SpiceError: its models are not installed, see README.md (ours, released)"]
