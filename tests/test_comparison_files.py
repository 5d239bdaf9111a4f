"""What a run leaves on disk: texts line by line, and the settings that made them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pplm import InputError
from pplm.comparison.run_settings import check_settings, write_settings
from pplm.comparison.samples import Sample, SampleFiles
from pplm.text_scores import TextScore


def sample(arm="unsteered", prompt=0, number=0, completion=" is deep", **values):
    return Sample(arm, prompt, 0, number, "The sea", completion, 3, 0.5, **values)


# --- texts -----------------------------------------------------------------------------------------------------


@given(completion=st.text(), score=st.floats(allow_nan=False), arm=st.text(min_size=1))
def test_a_text_comes_back_as_it_was_whatever_it_holds(tmp_path_factory, completion, score, arm):
    files = SampleFiles(tmp_path_factory.mktemp("run"))
    score = -math.inf if math.isinf(score) else score
    one = sample(arm.encode("utf-8", "ignore").decode(), completion=completion.encode("utf-8", "ignore").decode())
    one = Sample(one.arm, 1, 0, 2, one.prompt, one.completion, 3, 0.5, {"space": TextScore((score, -1.5), score)})
    files.append([one])
    files.repair()
    assert files.read() == {one.key: one}


def test_the_lines_are_json_that_others_can_read(tmp_path):
    scores = {"space": TextScore((-math.inf,), -1.5), "legal": TextScore((-1.5, -2.0), -math.inf)}
    SampleFiles(tmp_path).append([sample(scores=scores)])
    line = (tmp_path / "samples.jsonl").read_text()
    record = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["scores"] == {
        "space": {"attributes": [None], "fluency": -1.5},
        "legal": {"attributes": [-1.5, -2.0], "fluency": None},
    }
    assert (record["prompt"], record["completion"]) == ("The sea", " is deep")


def test_texts_that_an_earlier_version_scored_are_refused_before_others_join_them(tmp_path):
    files = SampleFiles(tmp_path)
    files.append([sample(scores={})])
    path = tmp_path / "samples.jsonl"
    for score in ("null", "-2.5"):
        path.write_text(path.read_text().replace('"scores": {}', f'"scores": {{"space": {score}}}'))
        with pytest.raises(InputError, match=r"line 1 was scored by an earlier version .* another output"):
            files.read()


@pytest.mark.parametrize("score", ["{}", '{"attributes": "12", "fluency": 0}', '{"attributes": [[]], "fluency": 0}'])
def test_a_score_that_is_none_is_damage(tmp_path, score):
    files = SampleFiles(tmp_path)
    files.append([sample(scores={})])
    path = tmp_path / "samples.jsonl"
    path.write_text(path.read_text().replace('"scores": {}', f'"scores": {{"space": {score}}}'))
    with pytest.raises(InputError, match=r"line 1 is damaged .* delete that line"):
        files.read()


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_half_a_last_line_is_cut_off_with_a_warning_and_nothing_else_is_lost(tmp_path, caplog, lost):
    files = SampleFiles(tmp_path)
    files.append([sample(number=0), sample(number=1), sample(number=2)])
    path = tmp_path / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-lost])
    files.repair()
    assert f"the last line of {path} is incomplete" in caplog.text
    assert sorted(files.read()) == [("unsteered", 0, 0, 0), ("unsteered", 0, 0, 1)]
    files.append([sample(number=2)])
    assert len(files.read()) == 3


def test_a_whole_file_is_left_alone(tmp_path, caplog):
    files = SampleFiles(tmp_path)
    files.append([sample()])
    before = (tmp_path / "samples.jsonl").read_bytes()
    files.repair()
    assert (tmp_path / "samples.jsonl").read_bytes() == before
    assert caplog.text == ""


@pytest.mark.parametrize("line", ["nothing", "[1]", "3", '{"arm": "a"}', '{"scores": {}}'])
def test_a_damaged_line_is_refused_by_number(tmp_path, line):
    files = SampleFiles(tmp_path)
    files.append([sample()])
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"samples.jsonl, line 2 is damaged"):
        files.read()


def test_processes_write_files_of_their_own_which_are_merged_in_order(tmp_path):
    one, two = (SampleFiles(tmp_path, index=index, count=2) for index in range(2))
    texts = [sample(prompt=prompt) for prompt in range(4)]
    SampleFiles(tmp_path).append(texts[:1])  # an earlier run of a single process
    two.append([texts[3]])
    one.append([texts[1]])
    two.append([texts[2]])
    assert {path.name for path in tmp_path.iterdir()} == {f"samples{n}.jsonl" for n in ("", ".part0", ".part1")}
    found = one.read()
    assert found == two.read() == {text.key: text for text in texts}
    one.merge(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]
    assert list(SampleFiles(tmp_path).read().values()) == texts


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be used"):
        SampleFiles(tmp_path / "missing").append([sample()])
    (tmp_path / "samples.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        SampleFiles(tmp_path).read()


# --- settings --------------------------------------------------------------------------------------------------

SETTINGS = {"seed": 0, "prompts": ("a", "b"), "arms": {"unsteered": None, "steered": {"step_size": 0.1}}}
VERSIONS = {"torch": "2.0", "threads": 1}


def test_a_new_folder_is_made_and_takes_the_same_settings_again(tmp_path, caplog):
    folder = tmp_path / "new" / "run"
    for _ in range(2):
        check_settings(folder, SETTINGS, VERSIONS)
        write_settings(folder, SETTINGS, VERSIONS)
    assert json.loads((folder / "settings.json").read_text())["settings"]["prompts"] == ["a", "b"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"seed was 0, is 1; use those settings again, or choose another output"),
        ({"arms": {"unsteered": None, "steered": {"step_size": 0.2}}}, r"arms\.steered\.step_size was 0\.1, is 0\.2"),
        ({"prompts": ("a",)}, r'prompts was \["a", "b"\], is \["a"\]'),
        ({"more": 1}, "more was not set, is 1"),
        ({"seed": 1, "a": 1, "b": 2, "c": 3, "d": 4}, r"and 2 more \(c, d\)"),
        ({f"setting {n:03}": n for n in range(500)}, r"and 497 more \(setting 003, (\w+ \w+, ){9}\.\.\.\);"),
    ],
)
def test_changed_settings_are_refused_by_name(tmp_path, change, message):
    write_settings(tmp_path, SETTINGS, VERSIONS)
    with pytest.raises(InputError, match=message):
        check_settings(tmp_path, {**SETTINGS, **change}, VERSIONS)


def test_other_versions_are_warned_of(tmp_path, caplog):
    write_settings(tmp_path, SETTINGS, VERSIONS)
    check_settings(tmp_path, SETTINGS, {**VERSIONS, "torch": "2.1"})
    assert "were begun with torch 2.0, now it is 2.1" in caplog.text
    write_settings(tmp_path, SETTINGS, {**VERSIONS, "torch": "2.1"})
    assert json.loads((tmp_path / "settings.json").read_text())["begun_with"]["torch"] == "2.0"


def test_folders_that_are_no_run_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_settings(tmp_path / "file", SETTINGS, VERSIONS)
    with pytest.raises(InputError, match="cannot be written"):
        write_settings(tmp_path / "file", SETTINGS, VERSIONS)
    (tmp_path / "samples.jsonl").write_text("")
    with pytest.raises(InputError, match=r"holds texts but no settings\.json"):
        check_settings(tmp_path, SETTINGS, VERSIONS)
    for content in ("{", "[]", "{}", '{"settings": {}}'):
        (tmp_path / "settings.json").write_text(content)
        with pytest.raises(InputError, match=r"settings\.json cannot be read"):
            check_settings(tmp_path, SETTINGS, VERSIONS)
