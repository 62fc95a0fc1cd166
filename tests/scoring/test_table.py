from tools.scoring import AuthorsRecord, Record, score
from tools.scoring.baselines import TrainingCaptions
from tools.scoring.meteor import Meteor
from tools.scoring.spice import Spice
from tools.scoring.table import format_table

SAME = "the scene is the same as before"
RECORDS = [
    Record("1.png", "a road is built", ("a road is built", "a new road"), True),
    Record("2.png", SAME, (SAME, "there is no difference"), False),
    Record("3.png", SAME, (SAME, "there is no difference"), False),
]
TRAINING = TrainingCaptions([SAME, "a road is built"], {"all": SAME}, "train.hdf5")
AUTHORS = [AuthorsRecord(r.caption, r.references, "1 2", ["1 2"]) for r in RECORDS]


def test_table_shows_every_column_of_every_part(meteor: Meteor):
    options = {"authors": AUTHORS, "decisions": {"map": [True, True, False]}, "resamples": 20}
    result = score(RECORDS, meteor, no_change=[SAME, "there is no difference"], training=TRAINING, **options)
    lines = format_table(result).splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in lines}
    words = {tuple(line.split()[:2]): line.split()[2:] for line in lines[: lines.index("")]}
    for column in ("ours", "floor", "floor_oracle", "margin", "released"):
        assert words["all", column][0] == "3"
        assert words["unchanged", column][7] == "-"  # CIDEr
        assert words["changed", column][0] == "1"
    assert words["all", "ours"][1] == f"{result['ours']['all']['bleu_1']['value']:.1f}"
    assert rows["by", "the"][:2] == ["map", "66.7"]
    assert f'floor of all (best constant caption of training): "{SAME}"' in lines
    above = result["floor_oracle"]["changed"]["ours_above"]
    message = f"our S*m minus its S*m: {above['value']:.1f} ({above['low']:.1f} to {above['high']:.1f})"
    assert f'floor_oracle of changed (best on these pairs): "a road is built"; {message}' in lines
    assert "floors chosen from 2 training captions (train.hdf5)" in lines
    assert rows["garbled", "captions"][0] == "0.0"
    assert len({len(line) for line in lines[: lines.index("")]}) == 1  # aligned
    facts = lines.index(next(line for line in lines if line.startswith("facts")))
    assert lines[facts + 1].split()[:3] == ["all", "ours", f"{result['ours']['all']['fact_f1']['value']:.1f}"]
    assert not any(line.startswith("unchanged") for line in lines[facts : lines.index("", facts)])
    persons = lines.index(next(line for line in lines if line.startswith("beside persons")))
    assert [line.split()[:2] for line in lines[persons + 1 : persons + 4]] == [
        ["all", "human"],
        ["all", "ours"],
        ["all", "floor"],
    ]
    assert max(map(len, lines[: lines.index("", persons)])) <= 110
    assert sum("no cider: left out" in line for line in lines) == 1


def test_table_lists_missing_scores(tmp_path):
    with Meteor(java=tmp_path / "absent") as broken:
        text = format_table(score(RECORDS[1:], broken, no_change=[SAME], training=TRAINING, resamples=20))
    assert "changed ours" not in text.replace("unchanged ours", "")
    assert "no meteor: MeteorError: Java could not be started" in text
    assert "no s_m: not without meteor" in text
    assert "-0.0" not in text


def test_absent_spice_is_one_short_line(meteor: Meteor, tmp_path):
    options = {"authors": AUTHORS, "optional": [Spice(tmp_path)], "resamples": 2}
    lines = format_table(score(RECORDS, meteor, no_change=[SAME], training=TRAINING, **options)).splitlines()
    message = [line for line in lines if "spice" in line]
    assert message == [
        "no spice: SpiceError: its models are not installed, see docs/results.md (ours, released)"
    ]
