"""The doors that strangers come through: what may be named, how much may be asked, who may enter and by which name."""

import logging
from dataclasses import fields

import pytest

from attribute_models.naming import KnownNames
from pplm import InputError, SteeringConfig
from pplm.apps.doors.address import allowed_hosts, check_extra, is_loopback, listen, url
from pplm.apps.doors.asked import CHOICES, HIGHEST, LEFT_OUT, name_asked, read_asked
from pplm.apps.doors.key import ApiKey, check_key, find_key
from pplm.apps.doors.offers import read_offers

KEY = "a-key-of-some-length"


@pytest.fixture
def offers(tmp_path):
    def write(text):
        path = tmp_path / "offers.yaml"
        path.write_text(text)
        return read_offers(path)

    return write


def test_a_request_names_attributes_and_settings(gpt2, tokenizer):
    asked = read_asked({"bags": ["space:2"], "words": ["moon", "sun"], "avoid_words": ["sea"], "strength": 0.3,
                        "norm_rule": None})  # fmt: skip
    named = name_asked(asked, gpt2, tokenizer, KnownNames.shipped())
    assert [(model.name, weight) for model, weight in named] == [("space", 2), ("words", 1), ("avoid words", 1)]
    steering = asked.steering(named, {})
    assert (steering.strength, steering.step_size) == (0.3, SteeringConfig().step_size)


def test_every_setting_of_steering_has_a_bound_or_is_left_out_on_purpose():
    assert {field.name for field in fields(SteeringConfig)} == {*HIGHEST, *CHOICES, *LEFT_OUT}
    assert not set(HIGHEST) & {*CHOICES, *LEFT_OUT}


@pytest.mark.parametrize("name", HIGHEST)
def test_a_number_beyond_its_bound_is_refused(name):
    for value in (HIGHEST[name] + 1, float("inf"), float("nan"), -1, 10**400, "1", True, [1]):
        with pytest.raises(InputError, match=rf"^steering\.{name}"):
            read_asked({"bags": ["space"], name: value})
    read_asked({"bags": ["space"], name: int(HIGHEST[name])})


@pytest.mark.parametrize(
    ("given", "needle"),
    [
        (["space"], "steering must be a table such as"),
        ({"bag": ["space"]}, "steering has no field 'bag'; its fields are avoid_bags, avoid_words, bags, .*words"),
        ({"steps": {}, "bags": ["space"]}, "has no field 'steps'"),
        ({"bag_from": ["moon"]}, "has no field 'bag_from'"),
        ({"bags": "space"}, "steering.bags must be a list of texts"),
        ({"bags": ["space"] * 9}, "steering.bags may hold at most 8; got 9"),
        ({"discriminators": ["sentiment:positive"] * 5}, "discriminators may hold at most 4"),
        ({"words": ["moon"] * 101}, "words may hold at most 100; got 101"),
        ({"words": ["m" * 61]}, "has 61 characters; at most 60"),
        ({"words": ["\ud800"]}, "is not text that can be written as UTF-8"),
        ({"bags": ["space"], "target": {"\ud800": 0.1}}, "attributes, by the names in the request"),
        ({"words": [1]}, "words must be a list of texts"),
        ({"bags": ["space"], "preset": "slow"}, "preset must be one of paper, fast; got 'slow'"),
        ({"bags": ["space"], "decay": 1}, r"steering\.decay must be of type bool"),
        ({"bags": ["space"], "target": 2}, r"steering\.target must be above 0 and below 1"),
        ({"bags": ["space"], "target": {str(n): 0.1 for n in range(30)}}, "target may name at most 22"),
        ({"bags": ["space"], "norm_rule": "x" * 10_000}, "norm_rule must be one of"),
        ({"strength": 0.5}, "steering.strength steers towards nothing; add bags, words"),
        ({"preset": "fast"}, "steering.preset steers towards nothing"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(given, needle):
    with pytest.raises(InputError, match=needle) as raised:
        read_asked(given)
    assert len(str(raised.value)) < 450


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "openai-community/gpt2", "space.txt"])
def test_no_path_and_no_hub_id_is_taken(gpt2, tokenizer, name):
    for field, text in (("bags", name), ("avoid_bags", name), ("discriminators", f"{name}:positive")):
        with pytest.raises(InputError, match="is not available here; choose one of"):
            name_asked(read_asked({field: [text]}), gpt2, tokenizer, KnownNames.shipped())


def test_a_weight_has_a_bound(gpt2, tokenizer):
    with pytest.raises(InputError, match="the weight of 'space' must be at most 10 here; got 11"):
        name_asked(read_asked({"bags": ["space:11"]}), gpt2, tokenizer, KnownNames.shipped())


def test_no_error_holds_a_path_of_the_operators(gpt2, tokenizer, offers, tmp_path):
    (tmp_path / "sky.txt").write_bytes(b"\xff\xfe")
    known = offers("bags: {my sky: sky.txt}").known
    with pytest.raises(InputError, match="my sky is not UTF-8") as raised:
        name_asked(read_asked({"bags": ["my sky"]}), gpt2, tokenizer, known)
    assert str(tmp_path) not in str(raised.value)


def test_an_operator_offers_bags_and_steered_models(gpt2, tokenizer, offers, tmp_path):
    (tmp_path / "sky.txt").write_text("moon\nsun\n")
    found = offers("models:\n  sky: {bags: [my sky], strength: 0.4}\nbags: {my sky: sky.txt}\n")
    asked = found.asked("sky", {"strength": 0.2, "avoid_words": ["sea"]})
    assert (asked.choice.bags, asked.choice.avoid_words, asked.settings) == (("my sky",), ("sea",), {"strength": 0.2})
    assert found.asked("gpt2-mini", None).choice.names_any is False
    (bag, _), _ = name_asked(asked, gpt2, tokenizer, found.known)
    assert bag.words == ("moon", "sun")


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("models: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("- space", "must hold some of models, bags, heads"),
        ("bag: {}", "must hold some of models, bags, heads"),
        ("bags: [sky.txt]", "bags must be a table of names"),
        ("bags: {sky: missing.txt}", "missing.txt does not exist"),
        ("bags: {space: offers.yaml}", "'space' has a name that is taken"),
        ("bags: {sky: 1}", "'sky' must stand for a path"),
        ("heads: {sky: missing}", "missing does not exist"),
        ("models: {1: {bags: [space]}}", "a name must be a text of 1 to 60 printable characters; got 1"),
        ("models: {sky: {bags: space}}", "model 'sky'.bags must be a list"),
        ("models: {sky: {strength: 0.5}}", "model 'sky'.strength steers towards nothing"),
    ],
)
def test_a_file_of_offers_that_is_wrong_is_refused_in_a_sentence(offers, text, needle):
    with pytest.raises(InputError, match=needle) as raised:
        offers(text)
    assert "\n" not in str(raised.value)


def test_a_key_opens_by_itself_alone(tmp_path, monkeypatch):
    key = ApiKey(KEY)
    assert key.opens(f"Bearer {KEY}")
    assert key.opens(f"bearer  {KEY}")
    for header in (None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer \udcff", "Bearer "):
        assert not key.opens(header)
    assert KEY not in repr(key)
    ApiKey("x" * 16)
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("PPLM_API_KEY", "of-the-environment")
    assert find_key(tmp_path / "key") == key
    assert find_key(None) == ApiKey("of-the-environment")
    monkeypatch.setenv("PPLM_API_KEY", "")
    assert find_key(None) is None


@pytest.mark.parametrize("text", ["", "short", "x" * 15, "x" * 20 + " y", "x" * 20 + "é"])
def test_a_key_that_can_be_guessed_or_not_be_sent_is_refused(text):
    with pytest.raises(InputError, match="the API key must be 16 or more printable") as raised:
        ApiKey(text)
    assert not text or text not in str(raised.value)


def test_a_key_is_needed_off_this_machine_alone():
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert is_loopback(host)
        check_key(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.com"):  # noqa: S104
        with pytest.raises(InputError, match=f"--host {host} can be reached from other machines.*PPLM_API_KEY"):
            check_key(host, None)
        check_key(host, ApiKey(KEY))


def test_a_door_is_called_by_its_own_names():
    assert allowed_hosts("127.0.0.1") == ["localhost", "127.0.0.1", "[::1]"]
    assert allowed_hosts("fe80::1", ["a.org", "*.b.org"])[3:] == ["[fe80::1]", "a.org", "*.b.org"]
    everywhere = allowed_hosts("0.0.0.0")  # noqa: S104
    assert "*" not in everywhere
    assert "0.0.0.0" not in everywhere  # noqa: S104
    for name in ("*", "*.*", "a.*", "", "http://a.org"):
        with pytest.raises(InputError, match="is not a host name"):
            allowed_hosts("127.0.0.1", [name])


def test_a_taken_port_and_a_host_that_is_none_are_refused():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert port > 0
        with pytest.raises(InputError, match=f"--port {port} cannot be used: .*choose another"):
            listen("127.0.0.1", port)
    with pytest.raises(InputError, match=r"--port must be between 0 .* and 65535; got 65536"):
        listen("127.0.0.1", 65536)
    with pytest.raises(InputError, match=r"--host 203\.0\.113\.7 --port 8000 cannot be used"):
        listen("203.0.113.7", 8000)
    assert url("::1", 80) == "http://[::1]:80"


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    with pytest.raises(InputError, match=r'^pplm serve needs no_such; install it with: pip install "pplm\[serve\]"$'):
        check_extra("serve", ["json", "no_such"])


def test_reading_what_is_asked_logs_nothing(caplog):
    caplog.set_level(logging.DEBUG)
    read_asked({"words": ["a secret"]})
    assert "secret" not in caplog.text
