"""`pplm.chat`: a conversation's turns and settings from Python, the stream of an answer, the files."""

import json

import pytest

import pplm
from attribute_models import BagOfWords
from pplm import InputError, SteeringWarning
from pplm.chat import AnswerStream, Conversation, read_conversations

FORCE = {"step_size": 0.3, "gamma": 1.0, "norm_rule": "current", "num_iterations": 3}


@pytest.fixture
def sky(chat):
    return BagOfWords.from_words(["moon", "star"], chat[1], name="sky")


@pytest.fixture
def talk(chat):
    def make(**options):
        return Conversation(*chat, **{"max_new_tokens": 6, "seed": 0, "do_sample": True, **options})

    return make


# --- turns -------------------------------------------------------------------------------------------------------


def test_a_conversation_is_what_generate_answers_to_the_whole_history_turn_by_turn(chat, talk, sky):
    conversation = talk(attributes=[sky], settings=FORCE)
    first, second = conversation.ask("The sea"), conversation.ask("The cat")
    roles = [message["role"] for message in conversation.messages]
    assert roles == ["user", "assistant"] * 2
    assert second.messages == conversation.messages[:3]
    assert conversation.messages[1]["content"] == first.completion.strip()
    arguments = {"attributes": [sky], "max_new_tokens": 6, "seed": 0, "do_sample": True, "prompt_indices": [1]}
    steering = pplm.SteeringConfig.for_attributes([sky], **FORCE)
    (wanted,) = pplm.generate(*chat, conversation.messages[:3], steering=steering, **arguments)
    assert wanted == second


def test_the_same_seed_and_questions_give_the_same_answers_and_each_turn_draws_anew(talk):
    one, other = talk(), talk()
    for conversation in (one, other):
        for _ in range(2):
            conversation.ask("The sea")
    assert one.messages == other.messages
    again = one.messages
    one.reset()
    assert one.messages == []
    one.ask("The sea")
    assert one.messages[1] != again[1]  # the third draw, not the first one again
    elsewhere = talk(seed=1)
    elsewhere.ask("The sea")
    assert elsewhere.messages != again[:2]


def test_a_question_that_cannot_be_answered_leaves_the_conversation_as_it_was(talk):
    conversation = talk()
    conversation.ask("The sea")
    before = conversation.messages
    for question, message in (("word " * 600, "positions"), ("  ", "empty")):
        with pytest.raises(InputError, match=message):
            conversation.ask(question)
    assert conversation.messages == before
    other = talk()
    other.ask("The sea")
    assert conversation.ask("The cat") == other.ask("The cat")


def test_the_unsteered_answer_is_to_the_same_question_and_is_not_kept(talk, sky):
    conversation = talk(attributes=[sky], settings=FORCE)
    with pytest.raises(InputError, match="there is no question yet"):
        conversation.unsteered()
    steered = conversation.ask("The sea")
    before = conversation.messages
    plain = conversation.unsteered()
    assert plain.completion == talk().ask("The sea").completion != steered.completion
    assert not plain.steered
    assert conversation.messages == before


# --- settings ----------------------------------------------------------------------------------------------------


def test_strength_is_the_dial_s_and_0_steers_nothing(talk, sky):
    conversation = talk(attributes=[sky])
    own = conversation.steering
    conversation.strength = 0.9
    assert conversation.steering == pplm.SteeringConfig.for_attributes([sky], strength=0.9)
    strong = talk(attributes=[sky], settings={"strength": 0.9}).ask("The sea")
    assert conversation.ask("The sea").token_ids == strong.token_ids
    conversation.strength = 0
    assert not conversation.steers
    for wrong in (-1, 1.5, float("nan")):
        with pytest.raises(InputError, match="strength must be finite and between 0 and 1"):
            conversation.strength = wrong
    conversation.strength = None
    assert conversation.steering == own
    with pytest.raises(InputError, match="strength takes the place of step_size"):
        talk(attributes=[sky], settings=FORCE).strength = 0.5


def test_attributes_may_change_between_turns(talk, sky):
    conversation = talk(settings=FORCE)
    assert not conversation.ask("The sea").steered
    conversation.attributes = [sky]
    assert conversation.ask("The sea").steered


def test_the_system_message_comes_first_and_replaces_the_template_s(chat, talk):
    conversation = talk(system="Be a star")
    conversation.ask("The sea")
    assert conversation.messages[0] == {"role": "system", "content": "Be a star"}
    conversation.system = None
    assert conversation.messages[0]["role"] == "user"
    assert conversation.ask("The sea").messages[0]["role"] == "user"
    with pytest.raises(InputError, match="system ' ' is empty"):
        conversation.system = " "


def test_a_model_without_a_template_is_refused_at_once(gpt2, tokenizer):
    with pytest.raises(InputError, match="has no chat template"):
        Conversation(gpt2, tokenizer)


# --- the stream --------------------------------------------------------------------------------------------------


def test_the_stream_s_pieces_are_the_answer_in_whole_words(chat, talk):
    pieces = []
    conversation = talk(max_new_tokens=30)
    answer = conversation.ask("The sea", streamer=AnswerStream(chat[1], pieces.append))
    assert "".join(pieces) == answer.completion.lstrip()
    assert len(pieces) > 1


# --- files -------------------------------------------------------------------------------------------------------


def test_a_saved_conversation_is_read_back_without_its_last_answer(talk, tmp_path):
    conversation = talk(system="Be a ☆")
    with pytest.raises(InputError, match="there is nothing to save yet"):
        conversation.save(tmp_path / "talk.jsonl")
    conversation.ask("The sea")
    conversation.save(tmp_path / "talk.jsonl")
    assert json.loads((tmp_path / "talk.jsonl").read_text("utf-8")) == conversation.messages
    with pytest.warns(SteeringWarning, match=r"line 1 ends with the assistant's answer, which is left out"):
        (read,) = read_conversations(tmp_path / "talk.jsonl")
    assert read == conversation.messages[:-1]


def test_a_file_that_exists_is_never_overwritten(talk, tmp_path):
    conversation = talk()
    conversation.ask("The sea")
    (tmp_path / "talk.jsonl").write_text("precious")
    with pytest.raises(InputError, match=r"talk\.jsonl exists; name another file"):
        conversation.save(tmp_path / "talk.jsonl")
    assert (tmp_path / "talk.jsonl").read_text() == "precious"
    with pytest.raises(InputError, match="cannot be written: No such file"):
        conversation.save(tmp_path / "nowhere" / "talk.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"role": "user", "content": "Hi"}]\n\n[{"role": "user"}]\n', "line 3, message 0 has no content"),
        ('{"role": "user", "content": "Hi"}\n', "line 1 must be a list of messages; got dict"),
        ("[{\n", "line 1 is not JSON"),
        ('[{"role": "assistant", "content": "Hi"}]\n', "line 1 ends with the assistant's own message"),
        ("\n", "holds no conversation; write one list of messages per line"),
        ("\udcff\n", "is not UTF-8"),
    ],
)
def test_a_line_that_holds_no_conversation_is_refused_with_its_number(tmp_path, content, message):
    (tmp_path / "talks.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        read_conversations(tmp_path / "talks.jsonl")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_conversations(tmp_path / "talks.jsonl")


@pytest.mark.parametrize("system", ["", " "])
def test_an_empty_system_message_is_refused_by_name(talk, system):
    with pytest.raises(InputError, match=rf"system '{system}' is empty"):
        talk(system=system)
