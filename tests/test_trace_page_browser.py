"""The page of a trace in a real browser."""

import pytest
from browser import axe_findings
from test_trace_page import nasty
from trace_documents import WORDS, document

from pplm.apps.html import trace_fragment, trace_page

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture
def opened(visitor, tmp_path):
    """Open a trace's page; options are the visitor's."""

    def open_page(trace, make=trace_page, **options):
        path = tmp_path / "trace.html"
        path.write_text(make(trace), encoding="utf-8")
        return visitor(**options).open(path)

    return open_page


def shown_numbers(page):
    return [float(value) for value in page.locator("#details data").evaluate_all("all => all.map(e => e.value)")]


def numbers_of(token):
    levels = [level[kind] for level in token["levels"].values() for kind in ("unsteered", "final", "gain")]
    moved = [] if token["step_length"] is None else [token["step_length"]]
    likeliest = [one["probability"] for kind in ("unsteered", "final") for one in token["likeliest"][kind]]
    return [*levels, token["kl"], *moved, token["gm_scale"], token["seconds"], *likeliest]


def test_the_details_of_each_token_are_the_documents_numbers(opened):
    trace = document(names=("space", "calm"), samples=2)
    page = opened(trace)
    for number in (1, 0):
        for place, token in enumerate(trace["texts"][number]["tokens"]):
            page.locator(f".text[data-text='{number}'] .token").nth(place).hover()
            assert shown_numbers(page) == numbers_of(token)
            assert page.locator("#what").inner_text().strip() == token["text"].strip()
    chosen = page.locator(".token[aria-current]")
    assert chosen.count() == 1
    assert "space\n31.1% → 31.1% (±0 points)" in page.locator("#numbers").inner_text()
    assert page.locator("#final li").first.inner_text().split() == ["final0", "40%"]


def test_a_keyboard_reaches_tabs_texts_and_tokens(opened):
    trace = document(samples=3)
    page = opened(trace)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Sample 1"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent") == "Sample 3"
    assert page.locator(".pair:visible").get_attribute("id") == "pair-3"
    page.keyboard.press("Tab")  # the panel's text
    assert page.evaluate("document.activeElement.dataset.token") == "0"
    for key, place in (("ArrowRight", 1), ("End", len(WORDS) - 1), ("ArrowLeft", len(WORDS) - 2), ("Home", 0)):
        page.keyboard.press(key)
        assert shown_numbers(page) == numbers_of(trace["texts"][5]["tokens"][place])
    assert "space:" in page.locator("#announced").inner_text()
    page.keyboard.press("Tab")  # the unsteered text
    assert shown_numbers(page) == numbers_of(trace["texts"][4]["tokens"][0])
    assert "not steered" in page.locator("#numbers").inner_text()


def test_shading_follows_the_chosen_attribute(opened):
    trace = document(names=("space", "calm"))
    trace["texts"][1]["tokens"][1]["levels"]["calm"] = {"unsteered": 0.0, "final": 0.6, "gain": 0.6}
    page = opened(trace)
    token = page.locator(".text[data-text='1'] .token").nth(1)
    colour = "e => getComputedStyle(e.querySelector('.ink')).backgroundColor"
    before = token.evaluate(colour)
    page.locator("#shade-by").select_option("calm")
    assert token.get_attribute("data-shade") == "5"
    assert token.evaluate(colour) != before


def test_a_token_is_found_in_the_chart_and_from_it(opened):
    page = opened(document())
    page.locator(".text .token").nth(20).hover()
    plot = page.locator(".plot svg").first
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 3.5 / len(WORDS), box["y"] + 20)
    assert "token 4 of" in page.locator("#where").inner_text()
    assert plot.locator(".cursor").get_attribute("d") == "M3.5 0V100"


def test_a_token_that_is_nothing_but_a_space_can_be_seen_among_the_likeliest(opened):
    trace = document()
    trace["texts"][1]["tokens"][0]["likeliest"]["final"][0]["text"] = " "
    page = opened(trace)
    page.locator(".text[data-text='1'] .token").first.hover()
    assert page.locator("#final li").first.inner_text().split() == ["␣", "40%"]


@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_says_what_its_numbers_mean_and_still_shows_the_text(opened, width):
    page = opened(document(words=WORDS * 3), viewport={"width": width, "height": 760})
    page.get_by_text("What these numbers mean").click()
    named = page.locator("#numbers dt").all_inner_texts()
    assert page.locator(".meaning dt").all_inner_texts() == [*named, "∅ ↵ ␣"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe_findings(page) == []
    text, details = page.locator(".text:visible").first.bounding_box(), page.locator("#details").bounding_box()
    assert details["y"] >= text["y"] + text["height"]


def test_nothing_that_a_text_holds_runs(opened):
    page = opened(nasty())
    page.locator(".text .token").first.focus()
    page.wait_for_timeout(200)
    assert page.locator("img").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.locator("#final").inner_text()
    assert opened(nasty(), trace_fragment).locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_is_readable_at_any_width_and_in_the_dark(opened, scheme, width):
    trace = document(names=("space", "calm"), samples=12)
    trace["texts"][1]["tokens"][2]["text"] = " " + "long" * 60
    trace["texts"][1]["tokens"][3]["text"] = "\n\n"
    page = opened(trace, color_scheme=scheme, viewport={"width": width, "height": 800})
    page.locator(".text .token").nth(2).click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe_findings(page) == []


@pytest.mark.parametrize("viewport", [{"width": 360, "height": 640}, {"width": 1200, "height": 700}])
def test_details_do_not_hide_their_token(opened, viewport):
    page = opened(document(words=WORDS * 6), viewport=viewport)
    page.locator(".text .token").first.focus()
    for _ in range(len(WORDS) * 6 // 4):
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        token, details = page.locator(".token:focus").bounding_box(), page.locator("#details").bounding_box()
        assert 0 <= token["y"] <= token["y"] + token["height"] <= details["y"]
        assert details["y"] + details["height"] <= viewport["height"]


PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}


def test_a_tap_shows_details_and_a_tap_elsewhere_lets_them_go(opened):
    page = opened(document(words=WORDS * 6), **PHONE)
    page.locator(".text .token").nth(3).tap()
    assert page.locator("#what").inner_text().strip() == WORDS[3].strip()
    assert "following" in page.locator("#details").get_attribute("class")
    page.locator("#numbers").tap()
    assert "following" in page.locator("#details").get_attribute("class")
    page.locator(".column h3").first.tap()
    assert "following" not in page.locator("#details").get_attribute("class")


@pytest.mark.parametrize(("make", "scripts"), [(trace_fragment, True), (trace_page, False)])
def test_a_tap_shows_a_token_s_numbers_also_where_no_script_does(opened, make, scripts):
    page = opened(document(), make, java_script_enabled=scripts, **PHONE)
    tokens = page.locator(".text").first.locator(".token")

    def shown_after_a_tap(place):
        place.tap()
        page.wait_for_timeout(500)  # a phone takes a quick second tap for a double one
        about = "all => all.map(one => getComputedStyle(one, '::after').content)"
        return [number for number, content in enumerate(tokens.evaluate_all(about)) if "KL" in content]

    assert shown_after_a_tap(tokens.nth(1)) == [1]
    assert shown_after_a_tap(tokens.nth(2)) == [2]
    assert shown_after_a_tap(page.locator("figcaption").first) == []


def test_traces_with_nothing_to_show_are_shown(opened):
    empty, alone, plain, silent = document(words=()), document(samples=2), document(names=()), document(samples=2)
    alone["texts"] = [text for text in alone["texts"] if not text["steered"]]
    silent["texts"][1]["tokens"] = []
    for token in silent["texts"][3]["tokens"]:
        token["levels"]["space"] = None
    assert opened(empty).locator(".text").first.inner_text() == "The evening"
    assert "No steered text" in opened(alone).locator(".pair:visible").inner_text()
    assert opened(plain).locator("figure:visible").count() == 1
    page = opened(silent)
    page.get_by_role("tab", name="Sample 2").click()
    assert "no level" in page.locator("#numbers").inner_text()


def test_all_samples_and_settings_are_printed(opened):
    page = opened(document(samples=3))
    page.emulate_media(media="print")
    assert page.locator(".pair:visible").count() == 3
    assert page.locator("#details:visible, [role=tab]:visible").count() == 0
    assert page.locator(".legend").is_visible()
    assert page.locator(".settings").is_visible()


def test_without_scripts_everything_is_there(opened):
    page = opened(document(samples=2), java_script_enabled=False)
    assert page.locator(".pair:visible").count() == 2
    assert "KL" in page.locator(".text .token").nth(3).get_attribute("title")
