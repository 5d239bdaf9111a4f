"""The web page in a real browser, with the embedded model."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from browser import CHROMIUM, axe_findings, require
from web_page import NASTY, REFUSED, arriving, choose, finished, generate, link, texts
from web_server import opened

import pplm
from attribute_models import BagOfWords

pytestmark = [pytest.mark.slow, pytest.mark.browser]
COUNTING = """() => {
  window.counts = [];
  const count = () => document.querySelector("#result .column")?.querySelectorAll(".token").length ?? 0;
  new MutationObserver(() => window.counts.push(count())).observe(
    document.getElementById("result"), { childList: true, subtree: true });
}"""
"""Keeps how many tokens the first column has, whenever it changes."""
WAITING = """() => {
  window.said = [];
  new MutationObserver(() => {
    const wave = document.getElementById("wave");
    if (wave) window.said.push(wave.textContent.trim());
  }).observe(document.body, { childList: true, subtree: true });
}"""
"""Keeps what the sine wave's tab says, whenever the page changes."""


@pytest.fixture(scope="module")
def address():
    """Where the page is."""
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    with opened() as address:
        yield address


@pytest.fixture
def arrive(address, visitor):
    return arriving(visitor, address)


def expected(embedded, prompt, bags, *, length, seed=0):
    """Return the steered and the unsteered text as `pplm.generate` writes them."""
    model, tokenizer = embedded
    attributes = [BagOfWords.load(bag, tokenizer) for bag in bags]
    how = {"seed": seed, "max_new_tokens": length, "do_sample": True, "top_k": 10}
    steering = pplm.SteeringConfig.for_attributes(attributes, presets=pplm.steering_presets(model), strength=0.5)
    steered = pplm.generate(model, tokenizer, prompt, attributes=attributes, steering=steering, **how)
    return steered[0].text, pplm.generate(model, tokenizer, prompt, **how)[0].text


def test_a_visitor_chooses_a_topic_and_sees_shaded_text_grow_beside_the_unsteered_one(arrive, embedded):
    page = arrive()
    choose(page, prompt="The evening sky", topics=["space"], length=60)
    page.evaluate(COUNTING)
    generate(page)
    counts = [count for count in page.evaluate("window.counts") if count]
    assert len(set(counts)) > 3
    assert counts == sorted(counts)
    assert page.locator("#result .column").first.locator(".token").count() == 60
    found = texts(page)
    assert [heading for heading, _ in found] == ["Steered", "Unsteered, same random numbers"]
    assert tuple(text for _, text in found) == expected(embedded, "The evening sky", ["space"], length=60)
    shades = page.locator("#result .token").evaluate_all("all => all.map(e => Number(e.dataset.shade))")
    assert max(shades) >= 1
    grounds = page.locator("#result .token .ink").evaluate_all(
        "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(grounds)) > 1
    assert page.locator("#result .charts svg path.final").get_attribute("d").startswith("M")
    assert page.locator("#generate").is_enabled()


def test_stop_ends_a_text_and_another_can_follow(arrive):
    page = arrive()
    choose(page, prompt="The king", topics=["legal"], length=200)
    page.click("#generate")
    page.wait_for_selector("#result .token")
    assert page.locator("#generate").is_disabled()
    page.click("#stop")
    page.locator("#status", has_text="Stopped; this is what was written").wait_for()
    page.wait_for_selector("#result [data-ended='stopped']")
    assert 0 < page.locator("#result .column").first.locator(".token").count() < 200
    choose(page, prompt="The queen", length=3)
    generate(page)
    assert texts(page)[0][1].startswith("The queen")
    assert page.locator("#result .column").first.locator(".token").count() == 3


def test_a_link_restores_every_setting_and_the_same_text(arrive):
    page = arrive(link(prompt="The sea", bags=["space", "legal"], avoid_bags="military", words=["blue moon", "tide"],
                       avoid_words="war", seeds=["ship", "sail"], heads="sentiment:positive", strength=0.3, samples=2,
                       seed=5, length=4))  # fmt: skip
    page.locator("#status", has_text="Restored from the link").wait_for()
    assert page.get_by_label("Prompt").input_value() == "The sea"
    assert page.locator("#bags input:checked").count() == 2
    generate(page)
    before = texts(page)
    assert len(before) == 4
    assert all(text.startswith("The sea") for _, text in before)
    settings = parse_qsl(urlsplit(page.url).query)
    assert ("words", "blue moon") in settings
    assert ("heads", "sentiment:positive") in settings
    assert ("avoid_bags", "military") in settings
    assert dict(settings) | {"seed": "5", "strength": "0.3", "samples": "2", "length": "4"} == dict(settings)
    page.get_by_text("Take it along").click()
    address = page.locator("#link textarea").input_value()
    other = arrive("?" + urlsplit(address).query)
    other.locator("#status", has_text="Restored from the link").wait_for()
    generate(other)
    assert texts(other) == before
    other.get_by_text("Avoid", exact=True).click()
    other.get_by_label("Words to avoid").fill(",".join(f"{number:02}" + 55 * "(" for number in range(60)))
    generate(other)
    assert "These settings have no link" in other.locator("#status").inner_text()
    assert urlsplit(other.url).query == ""


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (link(prompt="a", bags="../../etc/passwd"), "bag '../../etc/passwd' is not offered here"),
        (link(prompt="a", bags="/etc/passwd"), "bag '/etc/passwd' is not offered here"),
        (link(prompt="a", heads="openai-community/gpt2"), "head 'openai-community/gpt2' is not offered here"),
        (link(prompt="a", model="/etc/passwd"), "the link sets 'model', which is not a setting of the page"),
        (link(prompt="a", strength=NASTY), "strength must be a number"),
        (link(prompt="a", bags=NASTY[:60]), "is not offered here"),
    ],
)
def test_a_link_that_names_anything_else_is_refused_and_runs_nothing(arrive, query, message):
    page = arrive(query, complains=REFUSED)
    page.locator("#status", has_text="This link cannot be used").wait_for()
    assert message in page.locator("#status").inner_text()
    assert "root:" not in page.content()
    assert page.get_by_label("Prompt").input_value() == "The lake"


def test_texts_of_strangers_are_shown_as_they_are_and_run_nothing(arrive):
    page = arrive(link(prompt=NASTY, words=["<img src=x onerror=alert(4)>", "moon"], avoid_words="$(id)", length=4))
    page.locator("#status", has_text="Restored from the link").wait_for()
    assert page.get_by_label("Prompt").input_value() == NASTY
    generate(page)
    for _, text in texts(page):
        assert text.startswith(NASTY)
    assert page.locator("#result img, #result script").count() == 0
    page.get_by_text("Take it along").click()
    assert "'\"'\"'single'\"'\"'" in page.locator("#command textarea").input_value()
    assert repr(NASTY) in page.locator("#program textarea").input_value()
    page.locator("#bags").get_by_label("space", exact=True).check()
    generate(page)
    assert texts(page)[0][1].startswith(NASTY)


def test_two_visitors_write_at_once_and_each_gets_their_own_text(arrive, embedded):
    pages = [arrive(), arrive()]
    asked = [("The doctor", "science"), ("The judge", "legal")]
    for page, (prompt, topic) in zip(pages, asked, strict=True):
        choose(page, prompt=prompt, topics=[topic], length=12)
    for page in pages:
        page.click("#generate")
    for page, (prompt, topic) in zip(pages, asked, strict=True):
        finished(page)
        assert tuple(text for _, text in texts(page)) == expected(embedded, prompt, [topic], length=12)


def test_a_visitor_who_leaves_frees_the_place(arrive):
    gone, stays = arrive(), arrive()
    choose(gone, prompt="The king", topics=["legal", "space", "science"], length=200)
    gone.click("#generate")
    gone.wait_for_selector("#result .token")
    choose(stays, prompt="The queen", length=3)
    stays.click("#generate")
    gone.close()
    stays.locator("#status", has_text="Done.").wait_for(timeout=60_000)


def test_a_text_in_the_queue_can_be_taken_back(arrive):
    # The first one's texts take long on any machine.
    first, second = arrive(link(prompt="The king", bags=["legal", "space"], samples=4, length=200)), arrive()
    first.locator("#status", has_text="Restored").wait_for()
    first.click("#generate")
    first.wait_for_selector("#result .token")
    choose(second, prompt="The queen", topics=["space"], length=200)
    second.click("#generate")
    second.locator("#status", has_text="Waiting").wait_for()
    second.click("#stop")
    first.click("#stop")
    second.locator("#status", has_text="Stopped before it began").wait_for()
    assert second.locator("#result .token").count() == 0


def test_settings_that_cannot_be_used_are_said_in_words(arrive):
    page = arrive(complains=REFUSED)
    page.get_by_label("Prompt").fill("   ")
    page.click("#generate")
    page.locator("#status", has_text="the prompt is empty; write how the text is to begin").wait_for()
    assert page.locator("#status [role=alert]").count() == 1
    page.get_by_label("Prompt").fill("The lake")
    page.get_by_text("Own words, more").click()
    page.get_by_label("Own words").first.fill(3 * NASTY.replace(",", ""))
    page.click("#generate")
    page.locator("#status", has_text="each of words may have at most 60 characters").wait_for()
    page.locator("[data-testid=toast-text]", has_text="each of words may have at most 60 characters").wait_for()
    page.get_by_label("Own words").first.fill("")
    choose(page, prompt="The lake", length=2)
    generate(page)


def test_where_too_many_wait_the_visitor_is_told_and_can_try_again(arrive):
    page = arrive(complains="503")
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "Queue is full."}))
    page.click("#generate")
    page.locator("#status", has_text="Too many visitors are waiting already; try again in a minute.").wait_for()
    page.unroute("**/queue/join*")
    choose(page, prompt="The lake", length=2)
    generate(page)


def test_the_wave_follows_its_sliders(arrive):
    page = arrive()
    page.evaluate(WAITING)
    page.get_by_role("tab", name="Sine wave").click()
    page.wait_for_selector("#wave path.steered")
    assert page.evaluate("window.said[0]") == "Drawing the wave ..."  # a visitor does not look at nothing
    assert "Drawing" not in page.locator("#wave").inner_text()
    before = page.locator("#wave path.wanted").get_attribute("d")
    alone = page.locator("#wave path.alone").get_attribute("d")
    field = page.get_by_label("number input for Wanted frequency")
    field.fill("1.5")
    field.blur()
    page.locator("#wave li", has_text="wanted: 1.5 Hz").wait_for()
    assert page.locator("#wave path.wanted").get_attribute("d") != before
    assert page.locator("#wave path.alone").get_attribute("d") == alone
    strength = page.locator("input[aria-label='number input for Strength']:visible")
    strength.fill("0")
    strength.blur()
    page.locator("#wave li", has_text="steered, strength 0").wait_for()
    assert page.locator("#wave path.steered").get_attribute("d") == alone


def test_the_wave_is_that_of_both_sliders_also_where_they_are_moved_while_one_is_drawn(arrive):
    page, held, asked, moved = arrive(), [], [], False
    page.get_by_role("tab", name="Sine wave").click()
    page.wait_for_selector("#wave path.steered")
    page.route("**/queue/join*", lambda route: route.continue_() if moved else held.append(route))
    page.on("request", lambda one: asked.append(one.post_data_json["data"]) if "/queue/join" in one.url else None)
    frequency = page.get_by_label("number input for Wanted frequency")
    strength = page.locator("input[aria-label='number input for Strength']:visible")
    for field, value in ((frequency, "1.5"), (frequency, "3.5"), (strength, "0.2")):
        field.fill(value)
        page.wait_for_timeout(200)
    assert len(held) == 1  # of two, the one that was asked for first could be drawn last
    moved = True
    for route in held:
        route.continue_()
    page.locator("#wave li", has_text="steered, strength 0.2").wait_for()
    page.wait_for_timeout(2000)
    assert asked[-1] == [3.5, 0.2]
    assert page.locator("#wave li").all_inner_texts()[::2] == ["wanted: 3.5 Hz", "steered, strength 0.2"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_page(arrive, scheme):
    page = arrive(color_scheme=scheme)
    assert page.evaluate("document.body.classList.contains('dark')") is (scheme == "dark")
    assert axe_findings(page) == []
    choose(page, prompt="The lake", topics=["space"], length=5)
    generate(page)
    for title in ("Take it along", "Own words, more", "Avoid", "Samples, length"):
        if not (title.startswith("Samples") and page.get_by_role("spinbutton", name="Seed").is_visible()):
            page.get_by_text(title, exact=False).first.click()
    assert axe_findings(page) == []
    page.get_by_role("tab", name="Sine wave").click()
    page.wait_for_selector("#wave path.steered")
    assert axe_findings(page) == []


def test_the_copied_command_and_program_write_the_same_texts(arrive, tmp_path):
    page = arrive()
    prompt = 'It\'s "late" and $(id)'
    choose(page, prompt=prompt, topics=["space"], length=8)
    generate(page)
    shown = [text for _, text in texts(page)]
    page.get_by_text("Take it along").click()
    command = page.locator("#command textarea").input_value()
    program = page.locator("#program textarea").input_value()
    assert command.startswith("pplm generate ")
    ran = subprocess.run(  # noqa: S603
        ["/bin/bash", "-c", re.sub("^pplm", f"exec {sys.executable} -m pplm", command)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for text in shown:
        assert " ".join(text.split()) in " ".join(ran.stdout.split())
    path = tmp_path / "copied.py"
    path.write_text(program, encoding="utf-8")
    ran = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)  # noqa: S603
    assert ran.stdout == "".join(f"{text}\n" for text in shown)


def test_the_script_prints_what_visitors_wait_for(address):
    script = Path(__file__).parent.parent / "scripts" / "page_times.py"
    done = subprocess.run(  # noqa: S603
        [sys.executable, script, address, "--requests", "2", "--length", "3", "--chromium", CHROMIUM],
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    title, *rows = done.stdout.splitlines()
    assert title.startswith("2 requests of 3 tokens; seconds")
    names = ["first steered token", "steered text", "both texts"]
    assert [row[:38].strip() for row in rows] == names
    medians, _, largest = zip(*(map(float, row[38:].split()) for row in rows), strict=True)
    assert 0 < medians[0] <= medians[1] <= medians[2]
    assert all(median <= most for median, most in zip(medians, largest, strict=True))
