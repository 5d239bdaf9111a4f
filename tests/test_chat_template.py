"""What a chat template makes of messages: token ids, and which of them are the messages' own."""

import copy

import pytest

from pplm import InputError, SteeringWarning
from pplm.text.chat_template import check_messages, encode_messages, turn_end_ids

PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set first = '<<SYS>>' + messages[0].content + '<</SYS>> ' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}{% for m in messages %}"
    "{% if m.role == 'user' %}<|turn|>[INST] {{ (first if loop.first else '') + m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} <|done|>{% endif %}{% endfor %}"
)
SYSTEM_LAST = (  # before the last question, whichever place it has among the messages
    "{% for m in messages if m.role != 'system' %}[{{ m.role }}]"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}|{% endif %}"
    "{{ m.content }}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}<|done|>\n{% endfor %}"
)
NAMED = {"default": PLAIN, "tool_use": "[tools]"}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


@pytest.fixture
def tokenizer(chat):
    return chat[1]


def with_template(tokenizer, template):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def contents(tokenizer, tokens):
    """Return the content's tokens, run by run, as text."""
    runs, last = [], False
    for token, inside in zip(tokens.ids, tokens.in_content, strict=True):
        if inside:
            runs = [*runs, []] if not last else runs
            runs[-1].append(token)
        last = inside
    return [tokenizer.decode(run) for run in runs]


# --- ids ---------------------------------------------------------------------------------------------------------


def test_the_ids_are_those_that_transformers_makes_of_the_messages(tokenizer):
    messages = [user("The moon"), assistant("A star"), user("Why?")]
    wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert encode_messages(tokenizer, messages).ids == wanted


@pytest.mark.parametrize("begin", ["", "{{ bos_token }}"])
def test_a_template_decides_on_the_beginning_of_text_token_and_it_is_never_doubled(tokenizer, begin):
    tokens = encode_messages(with_template(tokenizer, begin + PLAIN), [user("The moon")])
    assert tokens.ids.count(tokenizer.bos_token_id) == bool(begin)
    assert not tokens.in_content[0]


# --- contents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [None, PLAIN, LLAMA_2, THINKING, NAMED])
def test_the_messages_contents_are_found_in_the_template(tokenizer, template):
    tokenizer = with_template(tokenizer, template) if template else tokenizer
    messages = [system("Be a star"), user("The moon"), assistant("The moon"), user("The sea?")]
    found = contents(tokenizer, encode_messages(tokenizer, messages))
    assert [text.strip() for text in found] == [message["content"] for message in messages]


@pytest.mark.parametrize(
    "content", ["user", "system", "assistant\n", "a cat", "Be a cat", "a<|done|>\n<|turn|>user\nb"]
)
def test_what_reads_like_the_template_counts_where_it_is_a_message_and_only_there(tokenizer, content):
    found = contents(tokenizer, encode_messages(tokenizer, [user(content), assistant("sea"), user(content)]))
    assert found == [content, "sea", content]


def test_a_message_that_stands_in_another_place_is_found(tokenizer):
    tokenizer = with_template(tokenizer, SYSTEM_LAST)
    tokens = encode_messages(tokenizer, [system("sea"), user("cat"), assistant("sun"), user("moon")])
    assert contents(tokenizer, tokens) == ["cat", "sun", "sea", "moon"]


@pytest.mark.parametrize(
    "template", [LLAMA_2, "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}|{% endfor %}"]
)
def test_white_space_that_a_template_takes_away_is_not_missed(tokenizer, template):
    tokenizer = with_template(tokenizer, template)
    tokens = encode_messages(tokenizer, [user("\n The moon  ")])
    assert [text.strip() for text in contents(tokenizer, tokens)] == ["The moon"]


def test_thoughts_that_a_template_leaves_out_do_not_hide_the_rest(tokenizer):
    tokenizer = with_template(tokenizer, THINKING)
    tokens = encode_messages(tokenizer, [user("a"), assistant("<think>no</think>sea"), user("moon")])
    assert contents(tokenizer, tokens) == ["a", "sea", "moon"]


def test_a_template_that_rewrites_a_message_is_warned_of_and_the_others_count(tokenizer):
    marks = "{{ '#' if 'sea' in messages[0].content else '@' }}"
    shouts = marks + "{% for m in messages %}{{ m.content.replace('sea', 'SEA') }}|{% endfor %}"
    with pytest.warns(SteeringWarning, match="messages, message 0: the chat template rewrites it, so its tokens"):
        tokens = encode_messages(with_template(tokenizer, shouts), [user("sea"), assistant("cat"), user("moon")])
    assert contents(tokenizer, tokens) == ["cat", "moon"]
    with pytest.raises(InputError, match="leaves nothing of the messages' contents"):
        encode_messages(with_template(tokenizer, "Hello"), [user("sea")])


def test_what_a_template_puts_beside_a_message_does_not_count(tokenizer):
    marks = "{% for m in messages %}{{ '#' if 'moon' in m.content }}{{ m.content }}|{% endfor %}"
    assert contents(tokenizer, encode_messages(with_template(tokenizer, marks), [user("moon")])) == ["moon"]


def test_an_answer_may_be_empty(tokenizer):
    tokens = encode_messages(tokenizer, [user("moon"), assistant(""), user("sea")])
    assert contents(tokenizer, tokens) == ["moon", "sea"]


# --- where an answer ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (None, ["<|end|>", "<|done|>"]),
        (LLAMA_2, ["<|end|>", "<|done|>"]),
        (PLAIN, ["<|end|>"]),
        (PLAIN.replace("{{ m.content }}", "{{ m.content }}{{ eos_token }}"), ["<|end|>"]),
        ("{{ raise_exception('one message only') if messages | length > 1 }}", ["<|end|>"]),
    ],
)
def test_an_answer_ends_with_the_text_or_where_the_template_ends_a_turn(tokenizer, template, ends):
    tokenizer = with_template(tokenizer, template) if template else tokenizer
    assert turn_end_ids(tokenizer) == tokenizer.convert_tokens_to_ids(ends)


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("Hi", "chat must be a list of messages; got str 'Hi'"),
        (user("Hi"), "chat must be a list of messages; got dict"),
        ([], "chat holds no message; give at least one, of role user"),
        (["Hi"], 'chat, message 0 must be {"role": ..., "content": ...}; got str \'Hi\''),
        ([{"content": "Hi"}], "chat, message 0 has no role; it has content"),
        ([user("Hi"), {"role": "user"}], "chat, message 1 has no content; it has role"),
        ([{}], "chat, message 0 has no role; it has nothing"),
        ([{"role": 3, "content": "Hi"}], "chat, message 0: role must be a text; got int 3"),
        ([user(None)], "chat, message 0: content must be a text; got NoneType None"),
        ([user([{"type": "text", "text": "Hi"}])], "chat, message 0: content must be a text; got list"),
        ([user(" \n")], r"chat, message 0: content ' \n' is empty; give at least one word, or leave it out"),
        ([user("Hi"), assistant("Yes")], "chat ends with the assistant's own message; end with the one that is to be"),
    ],
)
def test_malformed_messages_are_refused_by_what_is_wrong(messages, message):
    with pytest.raises(InputError) as error:
        check_messages("chat", messages)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_what_a_template_raises_is_one_line(tokenizer):
    strict = with_template(tokenizer, "{{ raise_exception('System role\n not supported') }}")
    with pytest.raises(InputError, match="messages: the chat template of the tokenizer refuses the messages: System r"):
        encode_messages(strict, [system("Hi"), user("Hi")])
    broken = with_template(tokenizer, "{% for %}")
    with pytest.raises(InputError, match="refuses the messages: ") as error:
        encode_messages(broken, [user("Hi")])
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_a_template_is_refused_by_name(tokenizer):
    plain = with_template(tokenizer, None)
    plain.name_or_path = "gpt2-mini"
    with pytest.raises(InputError, match=r"the tokenizer of gpt2-mini has no chat template: .*; name a chat model"):
        encode_messages(plain, [user("Hi")])
