"""A chat on the web page in a real browser, with a tiny model."""

from importlib.util import find_spec
from urllib.parse import parse_qsl, urlsplit

import pytest
from browser import axe_findings, require
from web_page import NASTY, REFUSED, arriving, choose, generate, link, texts
from web_server import opened

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def chat_address(chat, tmp_path_factory):
    """Where the page of a tiny model with a chat template is."""
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    folder = tmp_path_factory.mktemp("chat")
    for part in chat:
        part.save_pretrained(folder)
    with opened("--model", str(folder)) as address:
        yield address


@pytest.fixture
def arrive(chat_address, visitor):
    return arriving(visitor, chat_address)


def test_a_chat_goes_on_turn_by_turn_and_a_link_restores_it(arrive):
    page = arrive()
    page.get_by_label("Answer me (chat)").check()
    choose(page, prompt="the cat", topics=["space"], length=4)
    generate(page)
    ((_, steered), _) = texts(page)
    page.get_by_role("button", name="Reply to the steered answer").click()
    talk = page.locator("#talk")
    talk.locator("dd").nth(1).wait_for()
    assert page.get_by_label("Prompt").input_value() == ""
    assert page.evaluate("document.activeElement === document.querySelector('#prompt textarea')")
    assert talk.locator("dt").all_inner_texts() == ["You", "Model"]
    assert talk.locator("dd").first.text_content() == "the cat"
    assert talk.locator("dd").nth(1).text_content() in steered
    assert not page.locator("#reply").is_visible()
    page.get_by_label("Prompt").fill(NASTY)
    generate(page)
    second = texts(page)
    assert [heading for heading, _ in second] == ["Steered", "Unsteered, same random numbers"]
    settings = parse_qsl(urlsplit(page.url).query, keep_blank_values=True)
    assert next(value for name, value in settings if name == "conversation") == "the cat"
    other = arrive("?" + urlsplit(page.url).query)
    other.locator("#status", has_text="Restored from the link").wait_for()
    other.locator("#talk dd").nth(1).wait_for()
    generate(other)
    assert texts(other) == second
    page.get_by_role("button", name="Reply to the steered answer").click()
    talk.locator("dd").nth(3).wait_for()
    assert talk.locator("dd").nth(2).text_content() == NASTY
    assert talk.locator("img, script").count() == 0
    assert axe_findings(page) == []
    page.get_by_role("button", name="New conversation").click()
    talk.wait_for(state="hidden")
    page.get_by_label("Prompt").fill("the cat")
    generate(page)
    assert texts(page)[0] == ("Steered", steered)


def test_an_answer_that_is_still_shown_can_be_replied_to_once_and_not_after_a_new_conversation(arrive):
    page = arrive(link(prompt="the cat", chat=1, length=2), complains=REFUSED)
    page.locator("#status", has_text="Restored from the link").wait_for()

    def refused():
        page.get_by_label("Prompt").fill(" ")
        page.click("#generate")
        page.locator("#status", has_text="the prompt is empty").wait_for()
        page.locator("#generate:enabled").wait_for()

    generate(page)
    refused()
    page.get_by_role("button", name="Reply to the answer").click()
    page.locator("#talk dd").nth(1).wait_for()
    refused()
    assert not page.locator("#reply").is_visible()
    page.get_by_label("Prompt").fill("a star")
    generate(page)
    page.get_by_role("button", name="New conversation").press("Enter")
    page.locator("#talk").wait_for(state="hidden")
    page.locator("#prompt textarea:focus").wait_for()
    refused()
    assert not page.locator("#reply").is_visible()


def test_a_conversation_from_a_link_runs_nothing_and_belongs_to_the_chat_alone(arrive):
    page = arrive(link(prompt="the cat", chat=1, conversation=[NASTY, NASTY], length=2))
    page.locator("#talk dd").nth(1).wait_for()
    assert page.locator("#talk dd").all_inner_texts() == [NASTY, NASTY]
    assert page.locator("#talk img, #talk script").count() == 0
    page.get_by_label("Continue my text").check()
    page.locator("#talk").wait_for(state="hidden")
    generate(page)
    assert "conversation" not in page.url
    assert not page.locator("#reply").is_visible()
