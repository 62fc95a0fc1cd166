"""The report: its content, escaping of data, and its behaviour in a real browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

import configs
import eval as evaluation
from configs.command_line import load
from data import hdf5
from data.hdf5 import SplitReader
from data.images import stack_views
from data.maps.files import read_views
from data.sources import Pair, read_dataset
from data.splits import open_split
from tests.helpers.browser import Browser, find_browser
from tools import make_report
from tools.report.page import encode_views, learning_curves
from tools.scoring.fact_scores import add_facts
from tools.scoring.metrics import FACT_TITLES, METRIC_TITLES
from tools.scoring.results import read_log

pytestmark = pytest.mark.integration

HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)>" onclick="alert(1)'


class Page(HTMLParser):
    """The elements of a page, its title, the text of each card, and its four images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.title, self.cards, self.images, self._open = "", [], [], ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("title", "article", "script"):
            self._open = tag
            self.cards += [""] * (tag == "article")

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data: str) -> None:
        if self._open == "title":
            self.title += data
        if self._open == "article":
            self.cards[-1] += data
        if self._open == "script" and data.startswith("data:"):
            self.images.append(data.split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def evaluated(tiny_run, tmp_path_factory) -> Path:
    """The output folder of eval.py for the test split; do not modify it."""
    folder = tmp_path_factory.mktemp("eval")
    evaluation.main(["--checkpoint", str(tiny_run / "best.pt"), "--output", str(folder)])
    return folder


@pytest.fixture
def report(tiny_run, evaluated, tmp_path):
    """A function that makes a report from changed captions and scores and returns its text."""

    def make(*options: str, captions=lambda entries: entries, scores=lambda scores: scores) -> str:
        changes = {"captions.json": captions, "scores.json": scores}
        for name, change in changes.items():
            (tmp_path / name).write_text(json.dumps(change(json.loads((evaluated / name).read_text()))))
        make_report.main([str(tiny_run), "--eval", str(tmp_path), *options])
        return (tmp_path / "report.html").read_text()

    return make


def own_score(entry: dict) -> float:
    return fmean(entry["scores"].values())


def test_pairs_are_sorted_from_worst_to_best(report, evaluated):
    entries = json.loads((evaluated / "captions.json").read_text())
    worst = sorted(entries, key=own_score)
    page = Page(report())
    assert len(page.cards) == len(entries) == 6
    for text, entry in zip(page.cards, worst, strict=True):
        assert entry["filename"] in text
        assert f"log p {entry['log_prob']:.2f}" in text
        assert f"P(change) {entry['change_probability']:.2f}" in text
        assert entry["caption"].split() == text.split()[6 : 6 + len(entry["caption"].split())]
        for reference in entry["references"]:
            assert reference in text


def test_report_has_scores_and_floors(report, evaluated):
    scores = json.loads((evaluated / "scores.json").read_text())
    text = report()
    for part in ("all", "changed", "unchanged"):
        for column in ("ours", "floor", "released"):
            assert f"{scores[column][part]['rouge_l']['value']:.1f}" in text
        assert scores["floor"][part]["caption"] in text
        assert scores["floor_oracle"][part]["caption"] in text
    assert f"{scores['decision']['caption']['all']['value']:.1f}" in text
    assert "no cider: left out" in text


def test_images_belong_to_their_pairs(report, tiny_run, evaluated):
    reader, _ = open_split("test", load(tiny_run / "config.yaml").data)
    page = Page(report())
    for text, images in zip(page.cards, page.images, strict=True):
        row = next(row for row, name in enumerate(reader.filenames) if name in text)
        for view, address in enumerate(images):
            content = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
            actual = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
            difference = np.abs(actual.astype(int) - reader.views(row)[view])
            assert difference.mean() < 12 if view < 2 else not difference.any()


def test_void_maps_are_shown(report):
    def void(scores: dict) -> dict:
        settings = {**scores["evaluation"]["settings"], "data.maps": "void"}
        return {**scores, "evaluation": {**scores["evaluation"], "settings": settings}}

    images = Page(report("--data.maps", "void", scores=void)).images
    assert len({view for card in images for view in card[2:]}) == 1


def test_page_needs_no_other_file_and_has_a_short_script(report):
    text = report()
    page = Page(text)
    assert not page.all("link")
    links = [actual.get(name) for _, actual in page.elements for name in ("src", "href", "xlink:href")]
    assert all(link.startswith("#") for link in links if link)  # parts of the page itself
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert script.count("\n") < 150


def test_text_from_the_data_is_escaped(report):
    def hostile(entries):
        return [{**entries[0], "caption": HOSTILE, "facts": []}, *entries[1:]]

    def hostile_floor(scores):
        scores["floor"]["all"]["caption"] = HOSTILE
        return scores

    page = Page(report(captions=hostile, scores=hostile_floor))
    assert [script for script in page.all("script") if "type" not in script] == [{}]
    assert len(page.all("img")) == 4 * len(page.cards)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert any("<img" in text for text in page.cards)


def test_attention_of_the_worst_pairs(report, evaluated):
    page = Page(report("--attention", "2"))
    words = [attributes for attributes in page.all("button") if "data-gates" in attributes]
    entries = json.loads((evaluated / "captions.json").read_text())
    worst = sorted(entries, key=own_score)[:2]
    assert len(words) == sum(min(len(entry["caption"].split()) + 1, 51) for entry in worst)  # with <end>
    for kind in ("data-rgb", "data-sem"):
        grids = [np.frombuffer(base64.b64decode(word[kind]), np.uint8) for word in words]
        assert {grid.size for grid in grids} == {4}
        assert max(grid.max() for grid in grids) == 255
    assert all(0 < float(gate) < 1 for word in words for gate in word["data-gates"].split())


def test_missing_scores_are_dashes_and_their_pair_is_last(report):
    def failed(entries):
        entries[0]["scores"] = dict.fromkeys(entries[0]["scores"])
        return entries

    last = Page(report(captions=failed)).cards[-1]
    assert "BLEU-4 \N{EN DASH}, METEOR \N{EN DASH}" in " ".join(last.split())


def test_scores_of_an_earlier_version_have_one_floor(report):
    def earlier(scores):
        new = ("floor_oracle", "garbled", "no_change", "training_captions")
        return {key: value for key, value in scores.items() if key not in new}

    text = report(scores=earlier)
    assert "<th>floor</th>" in text
    assert "<th>oracle</th>" not in text


def with_facts(entries: list[dict]) -> list[dict]:
    """The captions of three changed pairs: with a right and a wrong fact, with a right one, without one."""
    captions = ("two houses and a lake appear", "trees are removed", "no change has occurred")
    references = (["two houses are built"], ["trees are cut"], ["a road is built"])
    for entry, caption, texts in zip(entries, captions, references, strict=False):
        entry |= {"caption": caption, "references": texts, "changed": True}
    add_facts(entries[:3], "english")
    return entries


def test_words_of_right_and_wrong_facts_are_marked(evaluated):
    pairs = with_facts(json.loads((evaluated / "captions.json").read_text()))
    words = [make_report.make_pair(entry, ["no change"])["words"] for entry in pairs[:3]]
    marks = [[(word["text"], word["fact"]) for word in own if "fact" in word] for own in words]
    assert marks == [[("houses", "right"), ("lake", "wrong")], [("trees", "right")], []]


def test_a_class_with_a_right_and_a_wrong_fact_is_marked_as_wrong():
    facts = [{"right": right, "words": [1], "label": "tree", "change": "appears"} for right in (False, True)]
    entry = {"caption": "the trees", "changed": True, "references": ["a tree"], "scores": {}, "facts": facts}
    assert make_report.make_pair(entry, [])["words"][1]["fact"] == "wrong"


def test_report_shows_facts_and_persons(report, evaluated):
    def keep_references(entries):
        texts = [entry["references"] for entry in entries]
        return [{**entry, "references": own} for entry, own in zip(with_facts(entries), texts, strict=True)]

    page = report(captions=keep_references)
    marked = set(re.findall(r'<span class="[^"]*fact-(\w+)">(\w+)</span>', page))
    assert marked >= {("right", "houses"), ("wrong", "lake"), ("right", "trees")}
    cards = [" ".join(text.split()) for text in Page(page).cards]
    (houses,) = [text for text in cards if "two houses and a lake" in text]
    assert "✓ building appears (2) ✗ water appears" in houses
    assert "contradicts" not in houses
    (nothing,) = [text for text in cards if "no change has occurred" in text]
    assert "✗ contradicts the references" in nothing


def test_report_has_the_scores_of_facts_and_persons(report, evaluated):
    scores = json.loads((evaluated / "scores.json").read_text())
    page = report()
    human = scores["human"]["changed"]["columns"]["human"]
    assert page.count("<th>persons</th>") == 3
    assert f"{human['rouge_l']['value']:.1f}" in page
    assert f"{scores['ours']['changed']['fact_f05']['value']:.1f}" in page
    assert f"{scores['maps']['changed']['human']['precision']:.1f}" in page


def test_reports_of_earlier_versions_have_no_facts(report):
    def earlier(entries):
        for entry in entries:
            for key in ("facts", "contradicts", "own_pair"):
                entry.pop(key, None)
        return entries

    def earlier_scores(scores):
        for column in ("ours", "floor", "floor_oracle", "margin"):
            for part in scores[column].values():
                for name in FACT_TITLES:
                    part.pop(name, None)
        return {key: value for key, value in scores.items() if key not in ("human", "maps")}

    page = report(captions=earlier, scores=earlier_scores)
    assert "fact F1" not in page
    assert 'name="facts"' not in page
    assert "Beside persons" not in page


def test_report_without_human_words_has_only_the_authors_column(report):
    def only_authors(scores):
        return {
            **scores,
            **dict.fromkeys(("ours", "floor", "floor_oracle", "margin", "human", "maps")),
            "reasons": {"ours": "no human words"},
        }

    text = report(scores=only_authors)
    assert "no human words (ours)" in text
    assert "<th>authors</th>" in text
    assert "<th>this run</th>" not in text


def decision_and_words(caption: str, changed: bool) -> tuple[bool, list[bool]]:
    entry = {"caption": caption, "changed": changed, "references": ["a house", "a new road"], "scores": {}}
    actual = make_report.make_pair(entry, no_change=["nothing new"])
    return actual["right"], [word["known"] for word in actual["words"]]


def test_decision_and_words_of_a_pair():
    assert decision_and_words("nothing new", changed=False) == (True, [False, True])
    assert decision_and_words("nothing new", changed=True) == (False, [False, True])
    assert decision_and_words("a road", changed=True) == (True, [True, True])
    assert decision_and_words("", changed=False) == (False, [])


def test_a_run_without_a_log_has_no_curves(tmp_path):
    assert learning_curves(read_log(tmp_path / "log.jsonl", "train anew")) == []


def test_mistakes_are_named(tiny_run, evaluated, report, tmp_path):
    with pytest.raises(FileNotFoundError, match="config.yaml not found: name the run folder"):
        make_report.main([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="scores.json not found: run eval.py"):
        make_report.main([str(tiny_run), "--split", "val"])
    with pytest.raises(ValueError, match="scores.json does not belong to .*, another choice of splits"):
        report("--split", "train")
    without = {"filename": "a.png", "caption": "", "references": [], "changed": False}
    with pytest.raises(ValueError, match="captions.json must have 'scores', as eval.py writes it"):
        report(captions=lambda entries: [{**entries[0], "scores": {}}, without])
    (tmp_path / "scores.json").write_text("{")
    with pytest.raises(ValueError, match="scores.json is not JSON"):
        make_report.main([str(tiny_run), "--eval", str(tmp_path)])


@pytest.mark.real
def test_a_report_of_1227_pairs_stays_under_60_megabytes(real_pairs):
    pairs = read_dataset(real_pairs).pairs[::20]
    sizes = []
    for pair in pairs:
        views = stack_views(read_views(pair.views, pair.label), (256, 256))
        sizes.append(sum(map(len, encode_views(views))))
    assert 1227 * (np.mean(sizes) + 4000) < 60e6  # the text of a card takes less than 4000 bytes


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    executable = find_browser()
    if not executable:
        pytest.skip("no Chromium here")
    with Browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def with_decisions(entries: list[dict]) -> list[dict]:
    """Four changed pairs, of which one is missed, and two unchanged ones; two have a wrong fact."""
    captions = ("a cat appears", "a catalogue appears", "a bobcat appears", *["there is no difference"] * 3)
    wrong = {"label": "road", "change": "appears", "number": None, "place": None, "right": False, "words": []}
    changes = []
    for index, caption in enumerate(captions):
        facts = {"facts": [wrong] * (index < 2), "contradicts": index == 0}
        changes.append({"caption": caption, "changed": index < 4, **facts})
    return [{**entry, **change} for entry, change in zip(entries, changes, strict=True)]


@pytest.mark.parametrize(
    ("chosen", "pairs"),
    [
        ("", 6),
        ("change=unchanged", 2),
        ("change=changed&decision=wrong", 1),
        ("words=appears+CAT", 2),
        ("words=bobcat&decision=right", 1),
        ("nonsense=1&change=", 6),
        ("facts=contradicts", 1),
        ("facts=wrong+fact", 2),
    ],
)
def test_address_filters_pairs(report, browser, tmp_path, chosen, pairs):
    report(captions=with_decisions)
    browser.open(f"{(tmp_path / 'report.html').as_uri()}#{chosen}")
    assert browser.run("document.querySelectorAll('.pair:not([hidden])').length") == pairs
    assert browser.run("document.querySelector('output').value") == f"{pairs} of 6"


def test_form_filters_pairs_and_updates_the_address(report, browser, tmp_path):
    report(captions=with_decisions)
    browser.open((tmp_path / "report.html").as_uri())
    browser.type_into("[type=search]", "cat")
    browser.run("document.querySelector('[name=decision][value=right]').click()")
    assert browser.run("document.querySelector('output').value") == "2 of 6"
    assert browser.run("location.hash") == "#decision=right&words=cat"
    browser.run("document.querySelector('[name=order]').selectedIndex = 2")
    browser.run("document.querySelector('[name=order]').dispatchEvent(new Event('input', {bubbles: true}))")
    sure = browser.run("[...document.querySelectorAll('.pair')].map(card => Number(card.dataset.sure))")
    assert sure == sorted(sure)


def test_images_near_the_screen_are_loaded_and_captions_do_not_run(report, browser, tmp_path):
    report(captions=lambda entries: [{**entry, "caption": HOSTILE, "facts": []} for entry in entries * 20])
    browser.open((tmp_path / "report.html").as_uri())
    drawn = "[...document.images].filter(image => image.naturalWidth).length"
    browser.run("document.querySelector('.pair').scrollIntoView()")
    browser.wait_for(f"{drawn} >= 4 && document.images[0].naturalWidth")
    assert browser.run(drawn) < browser.run("document.images.length") == 480
    browser.run("document.querySelector('.pair:last-child').scrollIntoView()")
    browser.wait_for("document.images[479].naturalWidth && !document.images[0].naturalWidth")
    assert browser.run("document.title") != "owned"


def test_pointing_at_a_word_shows_its_attention(report, browser, tmp_path):
    report("--attention", "1")
    browser.open((tmp_path / "report.html").as_uri())
    browser.point_at(".caption button")
    browser.wait_for("document.querySelectorAll('.pair:first-child canvas').length === 4")
    message = browser.run("document.querySelector('.gates').textContent")
    assert re.search(r"image gate 0\.\d\d, map gate 0\.\d\d, word gate 0\.\d\d", message)
    browser.point_at("h1")
    browser.wait_for("!document.querySelector('canvas')")


@pytest.mark.parametrize("width", [360, 1200])
def test_page_fits_into_the_window(report, browser, tmp_path, width):
    def wide(scores):
        interval = dict.fromkeys(("value", "low", "high"), 888.8)
        for column in ("ours", "floor", "floor_oracle", "margin", "released"):
            for part in scores[column].values():
                part.update(dict.fromkeys(METRIC_TITLES, interval))
        return scores

    report(scores=wide, captions=lambda entries: [{**entry, "caption": "x" * 200} for entry in entries])
    browser.open((tmp_path / "report.html").as_uri(), width)
    page = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    tables = "[...document.querySelectorAll('table')]"
    assert browser.run(page)
    assert browser.run(f"{tables}.every(table => table.offsetWidth <= table.parentElement.clientWidth)")
    browser.run("document.querySelector('img').click()")
    assert browser.run(page)


def test_images_are_enlarged_at_a_click(report, browser, tmp_path):
    report()
    browser.open((tmp_path / "report.html").as_uri())
    width = "document.querySelector('img').getBoundingClientRect().width"
    small = browser.run(width)
    browser.run("document.querySelector('img').click()")
    assert browser.run(width) > 1.5 * small


@pytest.mark.slow
def test_a_report_of_10000_pairs_needs_less_than_500_megabytes(tiny_run, demo_input, evaluated, tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    write_split(many, source=demo_input, pairs=10_000)
    entries = json.loads((evaluated / "captions.json").read_text())
    reader = SplitReader(many / "test.hdf5")
    captions = []
    for row, filename in enumerate(reader.filenames):
        entry = entries[row % len(entries)]
        captions.append({**entry, "filename": filename, "references": reader.references[row]})
    scores = json.loads((evaluated / "scores.json").read_text())
    del scores["evaluation"]  # it names the data of the tiny run
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps(scores))
    (folder / "captions.json").write_text(json.dumps(captions))
    peak = peak_memory(tiny_run, "--eval", folder, "--data.dir", many)
    assert peak < 500e6, f"{peak / 1e6:.0f} MB"


def test_torch_is_imported_only_for_attention(tiny_run, evaluated, tmp_path):
    argv = [str(tiny_run), "--eval", str(evaluated), "--output", str(tmp_path / "report.html")]
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tools import make_report; "
    script += "make_report.main(sys.argv[1:]); print('torch' in sys.modules)"
    root = Path(configs.__file__).parents[1]
    for options, imported in ([], "False"), (["--attention", "1"], "True"):
        command = [sys.executable, "-c", script, str(root), *argv, *options]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == imported


def peak_memory(*argv: object) -> int:
    """Peak resident memory of a report's process, in bytes.

    Linux starts `ru_maxrss` of a new process at its parent's peak, VmHWM at nothing.
    """
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tools import make_report; "
    script += "make_report.main(sys.argv[1:]); "
    script += "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    root = Path(configs.__file__).parents[1]
    command = [sys.executable, "-c", script, str(root), *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.split()[-1])


def write_split(folder: Path, source: Path, pairs: int) -> None:
    """Write a test split of `pairs` pairs, which repeat those in `source`."""
    reader = SplitReader(source / "test.hdf5")
    rows = [row % len(reader) for row in range(pairs)]
    described = [
        Pair(
            filename=f"{index}.png",
            split="test",
            views=(None,) * 4,
            captions=tuple(map(tuple, map(str.split, reader.references[row]))),
            raw=tuple(reader.raw[row]),
            changed=bool(reader.changed[row]),
            augmented=False,
        )
        for index, row in enumerate(rows)
    ]
    hdf5.write_split(
        folder,
        "test",
        pairs=described,
        views=(reader.views(row) for row in rows),
        image_size=tuple(reader.image_size),
        tokens=reader.tokens[rows],
        lengths=reader.lengths[rows],
        vocabulary=reader.vocabulary,
        settings={},
        no_change=reader.no_change,
    )
    shutil.copy(source / "vocabulary.json", folder)


def test_number_of_worst_pairs_can_be_limited(tiny_run, evaluated, demo_input, tmp_path, capsys):
    output = tmp_path / "report.html"
    options = [str(tiny_run), "--eval", str(evaluated), "--output", str(output), "--pairs", "2"]
    make_report.main(options)
    page = Page(output.read_text(encoding="utf-8"))
    assert len(page.cards) == len(page.images) == 2
    assert "The 2 worst pairs are shown." in output.read_text(encoding="utf-8")
    assert capsys.readouterr().out.startswith("the 2 worst of 6 pairs in ")
