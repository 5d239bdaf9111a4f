"""Texts and traces show themselves in a notebook."""

import json

import pytest
from helpers import STRONG, dial
from test_trace_page import Shown
from trace_documents import NASTY

import pplm
from attribute_models import BagOfWords
from attribute_models.composition import Avoid
from pplm import InputError

PROMPT = 'The <b>sea & "sky"\'s'


def run(gpt2, tokenizer, prompt=PROMPT, **arguments):
    defaults = {"steering": STRONG, "max_new_tokens": 6, "seed": 4, "do_sample": True}
    return pplm.generate(gpt2, tokenizer, prompt, **{**defaults, **arguments})


def shown(html):
    """Return the texts that HTML shows, without the characters that HTML cannot hold."""
    assert "<script" not in html
    return Shown(html).texts


def clean(text):
    return "".join(letter if letter in "\t\n" or (letter >= " " and letter != "\x7f") else "\ufffd" for letter in text)


def test_a_plain_text_is_shown_as_it_is_with_its_levels(gpt2, tokenizer, words):
    [plain] = run(gpt2, tokenizer)
    [steered] = run(gpt2, tokenizer, attributes=[words], steering=dial([words], strength=0.5))
    for text in (plain, steered):
        html = text._repr_html_()
        assert shown(html) == [clean(text.text)]
    assert "Unsteered" in plain._repr_html_()
    assert "nats" not in plain._repr_html_()
    html = steered._repr_html_()
    assert f"sky: level {steered.levels['sky']:.2%}" in html
    assert "nats from unsteered" in html


def test_a_traced_text_is_shaded_and_charted(gpt2, tokenizer, words):
    [text] = run(gpt2, tokenizer, attributes=[words], trace=True)
    html = text._repr_html_()
    assert shown(html) == [clean(text.text)]
    assert html.count('class="token') - html.count('class="swatches"') > len(text.token_ids)
    assert "<svg" in html
    assert shown(text.details._repr_html_()) == [clean(text.completion)]


def test_a_conversation_keeps_question_and_answer_apart(chat, words):
    model, tokenizer = chat
    own = BagOfWords.from_words(["moon", "star"], tokenizer, name="sky")
    for trace in (False, True):
        [text] = run(model, tokenizer, [{"role": "user", "content": "Who?"}], attributes=[own], trace=trace)
        assert shown(text._repr_html_()) == [clean(f"Who?\n\n{text.completion}")]


def test_a_document_of_several_texts_shows_them_beside_each_other(gpt2, tokenizer, words):
    attributes = [words, (Avoid(words), 0.5)]
    arguments = {"num_samples": 2, "trace": [words, Avoid(words)]}
    plain = run(gpt2, tokenizer, **arguments)
    steered = run(gpt2, tokenizer, attributes=attributes, **{**arguments, "trace": True})
    document = pplm.trace_document([*plain, *steered], command="", model=NASTY, attributes=attributes, steering=STRONG)
    order = [steered[0], plain[0], steered[1], plain[1]]
    assert shown(document._repr_html_()) == [clean(text.text) for text in order]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert [(own["name"], own["weight"], own["avoids"], own["kind"]) for own in document["attributes"]] == [
        ("sky", 1.0, False, "bag_of_words"),
        ("avoid sky", 0.5, True, "avoidance"),
    ]


def test_only_traced_texts_make_a_document(gpt2, tokenizer):
    texts = run(gpt2, tokenizer, num_samples=2)
    with pytest.raises(InputError, match="text 0 of prompt 0 has no details; generate it with trace=True"):
        pplm.trace_document(texts, command="", model="tiny", steering=STRONG)
