"""The page of a trace, as text; test_trace_page_browser.py opens it."""

import copy
import json
import re
from html.parser import HTMLParser

import pytest
from trace_documents import NASTY, WORDS, document

import pplm
from pplm.apps.html import trace_fragment, trace_page
from pplm.apps.html.shown import percent, points, shade


class Shown(HTMLParser):
    """Collects elements and attributes; `text` is what the text blocks show."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.depth = [], [], [], 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if ("class", "text") in attrs:
            self.texts.append("")
            self.depth = 1
        elif self.depth:
            self.depth += 1

    def handle_endtag(self, tag):  # noqa: ARG002 - the parser's
        self.depth = max(0, self.depth - 1)

    def handle_data(self, data):
        if self.depth:
            self.texts[-1] += data


def nasty():
    found = document(names=(NASTY, "calm"), prompt=NASTY, words=[NASTY, *WORDS])
    found["command"] = found["model"] = found["steering"]["target"] = NASTY
    found["attributes"][0]["words"] = found["attributes"][1]["label"] = NASTY.split(" ")
    found["attributes"][1]["label"] = NASTY
    for text in found["texts"]:
        for token in text["tokens"]:
            token["likeliest"]["final"][0]["text"] = NASTY
    return found


def test_the_page_shows_each_text_as_it_is():
    trace = document(samples=2, words=[*WORDS, "", "\n\nThen  it", "<b>"])
    assert Shown(trace_page(trace)).texts == [trace["texts"][number]["text"] for number in (1, 0, 3, 2)]
    assert Shown(trace_fragment(trace)).texts == [trace["texts"][number]["text"] for number in (1, 0, 3, 2)]


def test_the_page_holds_its_document():
    trace = nasty()
    embedded = re.search(r'<script type="application/json" id="trace">(.*?)</script>', trace_page(trace), re.DOTALL)[1]
    assert json.loads(embedded) == trace
    assert "\u2028" not in embedded
    assert "<" not in embedded


def test_nothing_in_a_trace_becomes_markup():
    plain, found = (Shown(trace_page(one)) for one in (document(names=("a", "b")), nasty()))
    assert set(found.tags) == set(plain.tags)
    assert "img" not in found.tags
    assert {(tag, name) for tag, name, _ in found.attributes} == {(tag, name) for tag, name, _ in plain.attributes}
    trace_page(nasty()).encode("utf-8")


def test_the_page_and_the_fragment_name_no_address():
    for made in (trace_page(document()), trace_fragment(document())):
        assert not re.search(r"https?:|url\(|@import|src=|//[a-z]", made.replace("// ", ""))
    assert "<script" not in trace_fragment(document())


def test_tokens_are_shaded_by_gain_alike_in_every_trace():
    gains = {None: 0, 0.0: 0, 0.0009: 0, 0.001: 1, 0.03: 2, 0.05: 3, 0.3: 4, 0.9: 5, -0.06: -3}
    assert {gain: shade(gain) for gain in gains} == gains
    trace = document(names=("space", "calm"))
    token = trace["texts"][1]["tokens"][1]
    token["levels"] = {"space": None, "calm": {"unsteered": 0.5, "final": 0.2, "gain": -0.3}}
    assert ("span", "data-shades", "0 -4") in Shown(trace_page(trace)).attributes


def test_the_shading_starts_with_the_first_attribute():
    trace = document(names=("space", "calm"))
    trace["texts"][1]["tokens"][1]["levels"]["space"] = {"unsteered": 0.0, "final": 0.6, "gain": 0.6}
    assert ("span", "data-shade", "5") in [a for a in Shown(trace_page(trace)).attributes if a[1] == "data-shade"][-40:]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.03456, "3.46%"), (1.0, "100%"), (0.0, "0%"), (1e-7, "<0.001%"), (0.000123, "0.0123%"), (None, "—")],
)
def test_shares_are_shown_as_percentages(value, shown):
    assert percent(value) == shown


def test_gains_are_shown_in_points_with_their_sign():
    assert [points(value) for value in (0.123, -0.123, 1e-9, None)] == [
        "+12.3 points",
        "-12.3 points",
        "±0 points",
        "—",
    ]


def test_steered_texts_stand_beside_the_unsteered_ones_of_the_same_random_numbers():
    trace = document(samples=3)
    trace["texts"] = [trace["texts"][number] for number in (1, 5, 0, 3)]  # in another order, sample 2 and 3 alone
    pairs = re.findall(r'data-title="(.*?)"', trace_page(trace))
    assert pairs == ["Sample 1", "Sample 3", "Sample 2"]
    assert re.findall(r'data-text="(\d)"><span class="prompt">', trace_page(trace)) == ["0", "2", "1", "3"]
    assert trace_page(trace).count("Not traced: no unsteered text was generated.") == 2


def test_texts_of_other_prompts_and_other_seeds_are_pairs_of_their_own():
    trace = document()
    for change in ({"prompt_index": 1}, {"seed": 7}):
        trace["texts"] += [{**text, **change} for text in document()["texts"]]
    titles = re.findall(r'data-title="(.*?)"', trace_page(trace))
    assert titles == ["Prompt 1, sample 1", "Prompt 2, sample 1", "Prompt 1, sample 1"]
    assert [title in trace_fragment(trace) for title in titles] == [True] * 3


def test_a_token_s_numbers_are_in_its_tooltip_and_its_leading_space_is_not_shaded():
    trace = document(unsteered=False)
    trace["texts"][0]["tokens"][1] |= {"levels": {"space": {"unsteered": 0.31, "final": 0.5, "gain": 0.19}}, "kl": 0.2}
    titles = [value for tag, name, value in Shown(trace_page(trace)).attributes if (tag, name) == ("span", "title")]
    assert titles[1] == "space: 31% → 50% (+19 points)\nKL 0.2 nats\nword of space"
    assert "word of" not in titles[2]
    assert '> <span class="ink">moon</span>' in trace_page(trace)


def test_a_token_s_divergence_is_a_bar_at_its_place():
    trace = document(unsteered=False)
    for place, token in enumerate(trace["texts"][0]["tokens"]):
        token["kl"] = {3: 0.4, 5: 0.2}.get(place, 0.0)
    assert 'class="bars" d="M3.2 100V0H3.8V100ZM5.2 100V50H5.8V100Z"' in trace_page(trace)


def test_levels_that_are_missing_break_the_line():
    trace = document(unsteered=False)
    tokens = trace["texts"][0]["tokens"]
    tokens[1]["levels"]["space"] = None
    tokens[5]["levels"]["space"] = {"unsteered": None, "final": None, "gain": None}
    line = re.search(r'<path class="final" d="(M[^"]*)"/>\n<path class="cursor"', trace_page(trace))[1]
    assert line.count("M") == 3
    for token in tokens:
        token["levels"]["space"] = None
    assert '<path class="unsteered" d="M0.5' not in trace_page(trace)


def charted(finals, unsteered=0.01):
    """Return a page whose steered text has these levels of the topic, and the chart of them."""
    trace = document(words=[f"w{place}" for place in range(len(finals))], unsteered=False)
    for token, final in zip(trace["texts"][0]["tokens"], finals, strict=True):
        token["levels"]["space"] = {"unsteered": unsteered, "final": final, "gain": final - unsteered}
    [chart] = re.findall(r"<figcaption>space.*?</figure>", trace_page(trace), re.DOTALL)
    return chart


def heights(chart):
    """Return how high the steered line is at each token, as a share of the chart."""
    [line] = re.findall(r'class="final" d="M(.*?)"', chart)
    return [1 - float(point.split(" ")[1]) / 100 for point in line.split("L")]


def test_a_peak_that_towers_over_a_chart_is_cut_off_and_its_height_written_beside_it():
    chart = charted([0.03] * 20 + [0.8] + [0.02] * 9 + [0.05] * 10)
    assert '<span class="top">8%</span>' in chart  # a tenth of the peak
    assert heights(chart)[39] == pytest.approx(0.05 / 0.08, abs=1e-3)
    assert heights(chart)[20] > 1
    assert re.findall(r"<text .*?>(.*?)</text>", chart) == ["↑ 80%"]
    assert "with higher peaks cut off" in chart


def test_of_two_peaks_side_by_side_the_height_of_the_higher_one_is_written():
    chart = charted([0.03] * 20 + [0.8, 0.9] + [0.02] * 18)
    assert re.findall(r"<text .*?>(.*?)</text>", chart) == ["↑ 90%"]


def test_a_chart_without_such_a_peak_is_drawn_whole_and_fills_its_height():
    for finals, top in (([0.03] * 30 + [0.21, 0.1, 0.05], "25%"), ([0.01] * 20 + [0.7] * 8, "80%"), ([0.9], "100%")):
        chart = charted(finals)
        assert f'<span class="top">{top}</span>' in chart
        assert max(heights(chart)) <= 1
        assert "<text" not in chart
        assert "cut off" not in chart


def test_the_averages_compare_the_steered_text_with_the_unsteered_one():
    trace = document()
    for text, level in zip(trace["texts"], (0.02, 0.3), strict=True):
        for token in text["tokens"]:
            token["levels"]["space"] = {"unsteered": min(level, 0.1), "final": level, "gain": 0.0}
        text["tokens"][0]["levels"]["space"] = None  # does not count
    for made in (trace_page(trace), trace_fragment(trace)):
        assert "<strong>30%</strong> in the steered text, 2% in the unsteered one" in made
        assert "After the steered words, the model alone would have 10%" in made
    del trace["texts"][0]
    assert "unsteered one" not in trace_page(trace)


def test_the_legend_says_which_attribute_texts_are_shaded_by():
    several = document(names=("calm", "space"))
    assert "raised the probability of calm by" in trace_fragment(several)
    assert "raised the probability of the attribute by" in trace_page(several)  # whose reader chooses
    assert "raised the probability of space by" in trace_page(document())


@pytest.mark.parametrize(
    ("change", "message"), [({"schema_version": 2}, "schema_version 2"), ({"texts": []}, "no text")]
)
def test_what_is_no_trace_is_refused(change, message):
    for make in (trace_page, trace_fragment):
        with pytest.raises(pplm.InputError, match=message):
            make({**document(), **change})


def test_the_page_changes_nothing_in_the_document():
    trace = document()
    before = copy.deepcopy(trace)
    trace_page(trace)
    assert trace == before
