"""The page of an audit: one file without script, every string in it is text, and its pictures say what they show."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from sample_reports import HOSTILE, SAMPLES

from redteam.core import ReportError
from redteam.formats import FORMATS, clean
from redteam.formats.html.plane import Axis, Point, Series, log_ends, plane, told
from redteam.formats.html.svg import Scale, element, shaped, words
from redteam.report.pictures import Curve, Pictures, RocPoint, pictures_of, saved

VOID = {"meta", "br", "link", "img", "hr", "input"}


def page(name, **changes):
    sample = SAMPLES[name]
    report = replace(sample.report, **changes)
    return FORMATS["html"](report, sample.judged(), policy=sample.policy)


class Reader(HTMLParser):
    """Take a page apart: its tags with their attributes, and its text; fail where tags do not close."""

    def __init__(self, drawn):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(drawn)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_page_is_whole_and_reaches_for_nothing(name):
    drawn = page(name)
    read = Reader(drawn)
    assert len(drawn.encode()) < 1_000_000
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "embed", "form"}
    for tag, attributes in read.tags:
        assert not {key for key in attributes if key.startswith("on") or key in ("src", "srcset", "action")}, tag
        assert attributes.get("href", "#").startswith("#")
    assert "@import" not in drawn
    assert "url(" not in drawn
    assert any("default-src 'none'" in (each.get("content") or "") for _, each in read.tags)


def test_every_string_from_outside_is_text():
    read = Reader(page("hostile"))
    assert {tag for tag, _ in read.tags} == {tag for tag, _ in Reader(page("leaky")).tags} | {"p"}
    assert clean(HOSTILE) in "".join(read.text)
    assert "<script>" not in page("hostile")


@pytest.mark.parametrize("name", SAMPLES)
def test_pictures_have_a_name_numbers_and_a_caption(name):
    drawn = page(name)
    pictures = re.findall(r"<svg.*?</svg>", drawn, flags=re.DOTALL)
    assert len(pictures) == drawn.count("<figure") == drawn.count("<figcaption>")
    for each in pictures:
        root = ElementTree.fromstring(each)
        assert root.attrib["role"] == "img"
        assert len(root.attrib["aria-label"]) > 10
        for part in root.iter():
            assert all("nan" not in value and "inf" not in value for value in part.attrib.values() if value != HOSTILE)
    assert drawn.count("The numbers<") == len(pictures)


def test_a_page_says_what_decides_first():
    text = " ".join("".join(Reader(page("leaky")).text).split())
    assert text.index("3 leaks proven in 4 checks") < text.index("AUC by RT101 loss") < text.index("What to do next")
    assert text.index("What to do next") < text.index("What was found") < text.index("What this audit could not have")
    assert "picks the one who was in the data 97 times in 100" in text
    assert text.count("leak proven") >= 3


def test_a_page_holds_the_method_the_standards_and_how_to_do_it_again():
    text = "".join(Reader(page("leaky")).text)
    for words_of in (
        "The manual page.",
        "AML.T0024.000",
        "NISTAML.033",
        "ML04:2023",
        "redteam audit model.pt --seed 7",
    ):
        assert words_of in text


@pytest.mark.parametrize("name", ["private", "canaries", "users"])
def test_what_a_report_holds_is_drawn(name):
    titles = {"private": "Epsilon: nominal", "canaries": "Planted canaries: exposure", "users": "What a user leaks"}
    assert titles[name] in page(name)


def test_training_text_is_never_on_a_page():
    rows = tuple(replace(row, text="my secret") for row in SAMPLES["leaky"].report.exposed)
    assert "my secret" not in page("leaky", exposed=rows)


def test_a_report_without_pictures_is_drawn_all_the_same():
    assert "ROC curve" in page("leaky")
    assert "ROC curve" not in page("leaky", pictures={})


def test_a_report_whose_pictures_are_broken_is_refused():
    report = replace(SAMPLES["leaky"].report, pictures={"curves": [{"attack": 3}]})
    with pytest.raises(ReportError, match=r"pictures\.curves\[0\]"):
        pictures_of(report)


@pytest.mark.parametrize("wrong", [(0.0, 0.5, 0.4, 0.6), (0.1, 0.5, 0.6, 0.7), (0.1, float("nan"), 0.0, 1.0)])
def test_what_is_no_point_of_a_curve_is_refused(wrong):
    with pytest.raises(ValueError, match="not a point"):
        RocPoint(*wrong)


@pytest.mark.parametrize(
    ("edges", "shares"), [((0.0,), ()), ((0.0, 0.0), (1.0,)), ((1.0, 0.0), (1.0,)), ((0.0, 1.0), (1.5,))]
)
def test_bins_that_do_not_fit_are_refused(edges, shares):
    with pytest.raises(ValueError, match="RT101"):
        Curve("RT101", "loss", 0.05, (), edges, shares, shares)


def test_what_pictures_are_drawn_from_comes_back_from_a_report():
    report = SAMPLES["leaky"].report
    assert saved(pictures_of(report)) == report.pictures
    assert pictures_of(replace(report, pictures={})) == Pictures()


def test_scales_and_their_round_values():
    linear, log = Scale(0.0, 1.0, 0.0, 100.0), Scale(1e-3, 1.0, 0.0, 300.0, log=True)
    assert (linear.at(0.25), linear.at(7.0), linear.at(-7.0)) == (25.0, 100.0, 0.0)
    assert log.at(0.1) == pytest.approx(200.0)
    assert linear.ticks() == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert log.ticks() == pytest.approx((1e-3, 1e-2, 1e-1, 1.0))
    assert Scale(2.0, 2.0, 5.0, 9.0).at(2.0) == 5.0


def test_an_element_escapes_names_and_cuts_long_ones():
    assert element("text", 'a<b>"&\x1b', class_='x"y') == '<text class="x&#34;y">a&lt;b&gt;&#34;&amp;\\u001b</text>'
    assert "…" in words(0, 0, "word " * 40, room=100)


def test_points_of_a_plane_stand_where_their_values_are():
    axis = Axis("x", 1.0, 100.0, log=True)
    points = [Point(10.0, 0.5, (5.0, 20.0), (0.4, 0.6), 0.9, "8")]
    drawn = plane("a name", "about", [Series("one", points, 0), Series("none", [], 1)], axis, Axis("y", 0.0, 1.0))
    root = ElementTree.fromstring(drawn)
    _, mark = sorted(float(each.attrib["cx"]) for each in root.iter() if each.tag.endswith("circle"))  # legend, then it
    assert mark == pytest.approx((44.0 + 346.0) / 2)
    assert "none" not in drawn
    assert told([Series("one", points, 0)]) == "one: 0.5 at 10"


def test_what_is_zero_stands_at_the_lower_end_of_a_logarithmic_axis():
    low, high = log_ends([0.0, 1.0, 10.0])
    assert 0 < low < 1.0
    assert high > 10.0
    assert Scale(low, high, 200.0, 0.0, log=True).at(0.0) == 200.0
    assert log_ends([])[0] > 0


def test_a_logarithmic_scale_over_less_than_two_powers_of_ten_can_be_read():
    assert Scale(1.5, 9.0, 0.0, 1.0, log=True).ticks() == (2.0, 5.0)


def test_marks_of_series_differ_by_shape():
    assert len({shaped(0.0, 0.0, look, "x") for look in range(7)}) == 7


def test_a_page_stays_below_a_megabyte_whatever_was_found():
    """Thousands of labels, groups, rows, notes and signals, some with names as long as a text."""
    report, long = SAMPLES["leaky"].report, "<&>" * 500
    leak, (curve, *_) = report.classes[0], report.pictures["curves"]
    crowded = page(
        "leaky",
        classes=tuple(replace(leak, label=f"{i} {long}") for i in range(1000)),
        groups=tuple(replace(leak, label=f"user {i}") for i in range(20_000)),
        exposed=tuple(replace(report.exposed[0], id=f"{i} {long}") for i in range(1000)),
        attack_notes=tuple(f"note {i}" for i in range(5000)),
        target=replace(report.target, name="&" * 100_000),
        pictures={**report.pictures, "curves": [{**curve, "signal": f"signal {i}"} for i in range(200)]},
    )
    assert len(crowded.encode()) < 1_000_000
    assert "and 19700 more rows in the saved report" in crowded
    assert re.search(r"and 4,8\d\d more, in the saved report", crowded)
    assert "more pictures of what is in the saved report" in crowded


def test_a_job_summary_has_room_for_what_is_said_of_thousands_of_labels():
    sample = SAMPLES["leaky"]
    many = tuple(replace(sample.report.classes[0], label=f"label {i} " + "x" * 500) for i in range(5000))
    report = replace(sample.report, classes=many, attack_notes=tuple(f"note {i}" for i in range(5000)))
    said = FORMATS["markdown"](report, sample.judged(), policy=sample.policy)
    assert len(said) < 65_536
    assert "and 4,900 more in the saved report" in said
    assert "and 4,900 more notes in the saved report" in said


def test_a_scale_spans_all_numbers_there_are():
    low, high = log_ends([1e-320, 1e308])
    scale = Scale(low, high, 0.0, 100.0, log=True)
    assert scale.at(1.0) == pytest.approx(50)
    assert [scale.at(value) for value in (1e-320, 1e308)] == [0.0, 100.0]
