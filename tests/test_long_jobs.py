"""`pplm generate --prompts-file`: lines, interruptions, and what is refused."""

import io
import json
from functools import partial

import pytest

from pplm.jobs import job_file

PROMPTS = ["The sea", "A star and a moon and a cat are", "Sun", "The cat is", "To the sea and back", "moon"]
OPTIONS = ["--num-samples", 2, "--max-new-tokens", 4, "--max-batch-size", 4, "--device", "cpu"]


@pytest.fixture
def run(command, chat_model):
    return partial(command, "generate", "--model", "tiny", *OPTIONS)


@pytest.fixture
def job(tmp_path, run):
    """Run a job on a file of `PROMPTS` steered to two words, into a file of the given name."""
    (tmp_path / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    base = ["--bag", tmp_path / "sky.txt", "--prompts-file", tmp_path / "prompts.txt"]

    def call(name, *more):
        return run(*base, "--output", tmp_path / name, *more)

    return call


def records(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_lines_are_in_the_prompts_order_unsteered_texts_before_steered_ones(job, tmp_path):
    code, out, err = job("a.jsonl", "--seed", 3)
    assert (code, out) == (0, "")
    assert f"18 lines of 6 prompts in {tmp_path / 'a.jsonl'}; " in err
    lines = records(tmp_path / "a.jsonl")
    assert [line["prompt"] for line in lines] == [prompt for prompt in PROMPTS for _ in range(3)]
    assert [(line["steered"], line["sample"]) for line in lines[:3]] == [(False, 0), (True, 0), (True, 1)]
    assert sorted(path.name for path in tmp_path.glob("a.jsonl*")) == ["a.jsonl", "a.jsonl.job.json"]


def test_the_file_holds_what_goes_to_stdout_and_what_prompts_as_arguments_give(job, run, tmp_path):
    job("a.jsonl", "--seed", 3)
    whole = (tmp_path / "a.jsonl").read_text("utf-8")
    steered = ["--bag", tmp_path / "sky.txt", "--seed", 3]
    assert run(*steered, "--prompts-file", tmp_path / "prompts.txt")[1] == whole
    assert run(*steered, *PROMPTS, "--output", tmp_path / "b.jsonl")[0] == 0
    keys = ("prompt", "completion", "prompt_index", "sample", "steered", "token_ids")
    found = [[{key: line[key] for key in keys} for line in records(tmp_path / name)] for name in ("b.jsonl", "a.jsonl")]
    assert found[0] == found[1]


class Killed(BaseException):
    """Stands for the end of a process."""


def stop_after(monkeypatch, writes, *, half):
    """Let the job end after some writes of lines, the last of them maybe cut in two."""
    append, left = job_file.JobFile._append, [writes]

    def stopping(self, path, lines):
        left[0] -= 1
        if left[0] == 0:
            if half:
                with path.open("ab") as file:
                    file.write(b"".join(lines)[:-9])
            raise Killed
        append(self, path, lines)

    monkeypatch.setattr(job_file.JobFile, "_append", stopping)


@pytest.mark.parametrize(("first", "half"), [(1, True), (3, False), (5, True)])
def test_a_job_that_was_killed_twice_ends_with_the_lines_of_an_uninterrupted_one(
    job, tmp_path, monkeypatch, first, half
):
    job("whole.jsonl", "--seed", 3)
    for writes in (first, 3):
        with monkeypatch.context() as patch:
            stop_after(patch, writes, half=half)
            with pytest.raises(Killed):
                job("a.jsonl", "--seed", 3, "--resume")
    assert job("a.jsonl", "--seed", 3, "--resume")[0] == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "a.jsonl.part").exists()


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_file_that_has_lost_a_line_within_is_refused(job, tmp_path, lost):
    job("a.jsonl", "--seed", 3)
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    code, _, err = job("a.jsonl", "--seed", 3, "--resume")
    assert code == 2
    assert f"has 2 lines of prompt {lost // 3}, this job makes 3" in err


def test_settings_of_other_texts_are_gone_before_a_new_job_has_its_own(job, tmp_path, monkeypatch):
    job("a.jsonl", "--seed", 3)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pplm.cli.file_jobs.write_settings", killed)
        with pytest.raises(Killed):
            job("a.jsonl", "--seed", 4, "--overwrite")
    assert job("a.jsonl", "--seed", 4, "--resume")[0] == 0
    assert {line["seed"] for line in records(tmp_path / "a.jsonl")} == {4}


def test_a_complete_job_is_left_alone_and_the_seed_that_was_drawn_is_used_again(job, tmp_path, monkeypatch):
    assert job("a.jsonl", "--resume")[0] == 0
    before = (tmp_path / "a.jsonl").read_bytes()
    monkeypatch.setattr("pplm.jobs.running.generate_unjudged", lambda *_, **__: pytest.fail("generated again"))
    code, _, err = job("a.jsonl", "--resume")
    assert code == 0
    assert f"18 lines of 6 prompts in {tmp_path / 'a.jsonl'}, 18 of them from before; " in err
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_other_settings_are_refused_by_name(job, tmp_path):
    job("a.jsonl", "--seed", 3)
    before = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "sky.txt").write_text("moon\nsun\n")
    code, _, err = job("a.jsonl", "--seed", 4, "--top-k", 3, "--resume")
    assert code == 2
    for part in ("seed was 3, is 4", "top_k was 10, is 3", "attributes[0].sha256 was"):
        assert part in err
    with (tmp_path / "prompts.txt").open("a") as file:
        file.write("One more\n")
    (tmp_path / "sky.txt").write_text("moon\nstar\n")
    assert "input.sha256 was" in job("a.jsonl", "--seed", 3, "--resume")[2]
    assert (tmp_path / "a.jsonl").read_bytes() == before


def test_a_file_that_exists_is_neither_replaced_nor_added_to_unasked(job, tmp_path):
    (tmp_path / "a.jsonl").write_text("mine\n")
    code, _, err = job("a.jsonl")
    assert code == 2
    assert "exists; add --resume to go on with its job, --overwrite to replace it" in err
    code, _, err = job("a.jsonl", "--resume")
    assert code == 2
    assert "a.jsonl.job.json is missing" in err
    assert (tmp_path / "a.jsonl").read_text() == "mine\n"
    assert job("a.jsonl", "--overwrite")[0] == 0
    assert len(records(tmp_path / "a.jsonl")) == 18


def test_ctrl_c_keeps_the_texts_and_names_the_way_on(job, tmp_path, monkeypatch):
    from pplm.jobs import running

    generate, calls = running.generate_unjudged, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(running, "generate_unjudged", interrupted)
        code, _, err = job("a.jsonl", "--seed", 3)
    assert code == 130
    written, waiting = (len((tmp_path / name).read_bytes().splitlines()) for name in ("a.jsonl", "a.jsonl.part"))
    assert written + waiting >= 8
    assert f"{written} texts are in {tmp_path / 'a.jsonl'}" in err
    assert "go on with --resume" in err
    assert job("a.jsonl", "--seed", 3, "--resume")[0] == 0
    assert len(records(tmp_path / "a.jsonl")) == 18


def test_a_prompt_that_fails_has_a_line_and_is_tried_again_only_when_asked_for(run, tmp_path, monkeypatch):
    from pplm.errors import InputError
    from pplm.jobs import running

    path, output = tmp_path / "a.csv", tmp_path / "out.jsonl"
    path.write_text("id,prompt,text\n1,The sea,x\n2, ,y\n3,moon,z\n4,sun,z\n")
    ask = ["--prompts-file", path, "--output", output, "--seed", 0, "--resume"]
    generate = running.generate_unjudged

    def refusing(model, tokenizer, prompts, **options):
        if "moon" in prompts:
            raise InputError("no moon today")
        return generate(model, tokenizer, prompts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(running, "generate_unjudged", refusing)
        code, _, err = run(*ask)
        first = output.read_bytes()
        assert run(*ask)[0] == 1  # kept
        assert output.read_bytes() == first
    assert code == 1
    assert '2 prompts failed; see "error" in the lines' in err
    lines = records(output)
    assert [line["prompt_index"] for line in lines] == [0, 0, 1, 2, 3, 3]
    assert [line["id"] for line in lines] == ["1", "1", "2", "3", "4", "4"]
    assert lines[0]["input_text"] == "x"
    assert "is empty" in lines[2]["error"]
    assert lines[3]["error"] == "no moon today"
    code, _, err = run(*ask, "--retry-errors")
    assert code == 1
    assert "1 prompt failed" in err
    assert [line["prompt_index"] for line in records(output)] == [0, 0, 1, 2, 2, 3, 3]
    assert [line for line in records(output) if line["prompt_index"] != 2] == [*lines[:3], *lines[4:]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts-file", "{p}", "The sea"], "holds the prompts; leave out 'The sea'"),
        (["--prompts-file", "{p}", "--resume"], "--resume needs --output FILE"),
        (["--prompts-file", "{p}", "--output", "{p}"], "is the file of the prompts"),
        (["--prompts-file", "{p}", "--output", "{p}.o", "--resume", "--overwrite"], "leave out one of the two"),
        (["--prompts-file", "{p}", "--retry-errors"], "add --resume"),
        (["--prompts-file", "{p}", "--use-columns", "colour"], "'colour' sets nothing"),
        (["--prompts-file", "{p}", "--format", "csv"], "no column 'prompt'; name one of The sea with --prompt-column"),
        (["--prompts-file", "{p}", "--use-columns", "seed"], "has no column 'seed'"),
        (["--prompts-file", "{p}.no"], "does not exist"),
        (["--prompts-file", "-", "--output", "{p}.o", "--resume"], "write them to a file first"),
        (["The sea", "--resume"], "--resume is for a file of prompts"),
        (["--prompts-file", "{p}", "--allow-files"], "--allow-files is about the columns"),
        (["--prompts-file", "{p}", "--prompt-column", "seed", "--use-columns", "seed"], "is the column of the prompts"),
        (
            ["--prompts-file", "{p}.part", "--format", "txt", "--output", "{p}", "--overwrite"],
            "p.txt.part, which is the file of the prompts",
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused_in_one_line(run, tmp_path, arguments, message):
    path = tmp_path / "p.txt"
    path.write_text("The sea\nmoon\n")
    (tmp_path / "p.txt.part").write_text("The sea\n")
    code, out, err = run(*[argument.format(p=path) for argument in arguments], "--seed", 0)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert path.read_text() == "The sea\nmoon\n"
    assert (tmp_path / "p.txt.part").read_text() == "The sea\n"
    assert not (tmp_path / "p.txt.o").exists()


def test_a_full_disk_is_one_line(job):
    code, _, err = job("/dev/full")
    assert code == 2
    assert "cannot be written: No space left on device" in err.splitlines()[-1]


def test_a_job_that_runs_out_of_memory_goes_on_in_smaller_batches_with_the_same_texts(job, tmp_path, monkeypatch):
    from pplm import generation

    job("whole.jsonl", "--seed", 3)
    decoding, refused = generation.steered_decoding, []

    def small(*arguments, sample_ids, **options):
        if len(sample_ids) > 1:
            refused.append(len(sample_ids))
            raise MemoryError
        return decoding(*arguments, sample_ids=sample_ids, **options)

    monkeypatch.setattr(generation, "steered_decoding", small)
    monkeypatch.setattr("pplm.batching._release", lambda: None)  # slow, and nothing to release here
    assert job("a.jsonl", "--seed", 3)[0] == 0
    assert max(refused) == 4
    found, wanted = ([(line["prompt_index"], line["sample"], line["text"]) for line in records(tmp_path / name)]
                     for name in ("a.jsonl", "whole.jsonl"))  # fmt: skip
    assert found == wanted


def test_a_saved_bag_is_kept_when_its_job_goes_on_and_is_never_put_over_another_file(run, tmp_path):
    (tmp_path / "p.txt").write_text("The sea\n")
    (tmp_path / "mine.txt").write_text("precious\n")
    ask = ["--bag-from", "moon", "--bag-size", 2, "--prompts-file", tmp_path / "p.txt", "--seed", 0,
           "--output", tmp_path / "a.jsonl", "--resume", "--save-bag"]  # fmt: skip
    assert run(*ask, tmp_path / "mine.txt")[0] == 2
    assert (tmp_path / "mine.txt").read_text() == "precious\n"
    assert run(*ask, tmp_path / "new.txt")[0] == 0
    (tmp_path / "new.txt").write_text("edited since\n")
    assert "is left as it is" in run(*ask, tmp_path / "new.txt")[2]
    assert (tmp_path / "new.txt").read_text() == "edited since\n"


def test_stdin_is_read_by_its_format_and_refused_when_it_is_empty(run, monkeypatch):
    def ask(text, *options):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return run("--prompts-file", "-", "--seed", 0, *options)

    code, out, err = ask("The sea\n\nmoon\n")
    assert (code, out.count("\n")) == (0, 4)
    assert "4 lines of 2 prompts on stdout" in err
    code, out, _ = ask("prompt,seed,id\nThe sea,7,a\n", "--format", "csv", "--use-columns", "seed")
    assert (json.loads(out.splitlines()[0])["seed"], json.loads(out.splitlines()[0])["id"]) == (7, "a")
    for text, message in (("\n", "holds no prompts"), ("prompt\nThe sea\n", "has no column 'seed'")):
        code, out, err = ask(text, "--format", "csv", "--use-columns", "seed")
        assert (code, out) == (2, "")
        assert message in err.splitlines()[-1]
