"""The command line without any run: help, catalogues, bad input, boards from records, exit codes."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from advbench.benchmark.cli import main
from advbench.benchmark.cli.app import COMMANDS
from advbench.benchmark.protocol import Protocol, published
from advbench.benchmark.runs.job import Job, RunSpec

DIGITS = published()["digits-linf/2"]


def advbench(*words: object, code: int = 0, stdin: str | None = None) -> Result:
    """Run a command; a bad end is one line on stderr, without a traceback."""
    result = CliRunner().invoke(main, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refusal(*words: object) -> str:
    """Run a command with bad input: exit code 2, one line on stderr, which is returned."""
    result = advbench(*words, code=2)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


# Help and version -----------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_the_exit_codes():
    said = advbench("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in said
    assert "Exit codes: 0" in said


@pytest.mark.parametrize(
    "words", [*([command] for command in COMMANDS), ["methods", "show"], ["protocols", "show"]], ids=" ".join
)
def test_every_command_explains_itself_with_an_example(words):
    said = advbench(*words, "--help").stdout
    assert f"  advbench {' '.join(words)}" in said.split("Example")[1]
    assert r"\b" not in said


def test_the_documentation_of_the_commands_is_what_they_say():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, root / ".ci/commands.py"], capture_output=True, text=True, check=True)
    written = (root / "docs/commands.md").read_text(encoding="utf-8")
    assert written == done.stdout, "write it anew: .venv/bin/python .ci/commands.py > docs/commands.md"


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert advbench("--version").stdout == f"advbench, version {version('advbench')}\n"


@pytest.mark.parametrize("words", [["--help"], ["protocols"], ["leaderboard", "--help"], ["run-all", "--help"]])
def test_what_needs_no_torch_does_not_load_it(words):
    program = (
        "import sys\n"
        "from advbench.benchmark.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Bad input ------------------------------------------------------------------------------------------------------------

BAD = [
    (["run-alll"], "no command 'run-alll'; did you mean run-all?"),
    (["zzz"], "no command 'zzz'; `advbench --help` lists them"),
    (["run-all", "--protocl", "digits-linf"], "--protocl"),
    (["run-all", "--protocol", "cifar11-linf"], "no protocol 'cifar11-linf'; did you mean cifar10-linf?"),
    (["run-all", "--protocol", "zzz"], "no protocol 'zzz'; published: "),
    (["run-all", "--protocol", "none.toml"], "none.toml: cannot be read"),
    (["run-all", "--protocol", "digits-linf", "--protocol", "digits-linf/2"], "used twice"),
    (["run-all", "--methods", "pgd"], "no method 'pgd'; did you mean pgd_at?"),
    (["run-all", "--methods", "zzz"], "no method 'zzz'; there are: "),
    (["run-all", "--methods", "pgd_at,,trades"], "separated by commas"),
    (["run-all", "--methods", "pgd_at,pgd_at"], "different names"),
    (["run-all", "--seeds", "0,0"], "different"),
    (["run-all", "--seeds", "3-1"], "smaller end"),
    (["run-all", "--seeds", "one"], "write seeds as 0,1,2 or 0-2"),
    (["run-all", "--seeds", "-1"], "write seeds as"),
    (["run-all", "--methods", "trades", "--set", "trades.beta"], "write method.key=value"),
    (["run-all", "--methods", "trades", "--set", "trades.gamma=1"], "it has: beta"),
    (["run-all", "--methods", "trades", "--set", "trades.beta=much"], "trades.beta = 'much'"),
    (["run-all", "--methods", "pgd_at", "--set", "trades.beta=3"], "trades is not among the methods"),
    (["run-all", "--suite", "none.toml"], "none.toml: cannot be read"),
    (["run-all", "--suite", "none.toml", "--seeds", "0"], "--suite says it all"),
    (["run-all", "--device", "quantum"], "--device quantum: not on this machine"),
    (["run-all", "--device", "cuda:99"], "--device cuda:99: not on this machine"),
    (["run-all", "--jobs", "0"], "--jobs"),
    (["run-all", "--executor", "carrier-pigeon"], "--executor"),
    (["train"], "Missing argument 'METHOD'"),
    (["train", "pgd"], "no method 'pgd'"),
    (["evaluate", "abc", "--store", "nowhere"], "no run 'abc'"),
    (["job", "none.json"], "none.json: cannot be read"),
    (["leaderboard", "--store", "nowhere"], "no records"),
    (["leaderboard", "--records", "nowhere"], "nowhere: no such records folder"),
    (["leaderboard", "--format", "word"], "--format"),
    (["plot", "--store", "nowhere"], "no records"),
    (["publish"], "name the runs to publish, or a protocol"),
    (["publish", "abc", "--protocol", "digits-linf"], "one of the two"),
    (["publish", "--protocol", "digits-linf", "--store", "nowhere"], "no finished run"),
    (["publish", "abc", "--store", "nowhere"], "no run 'abc'"),
    (["methods", "show", "pgd"], "no method 'pgd'"),
    (["protocols", "show", "cifar11"], "no protocol 'cifar11'"),
    (["prune", "--suite", "none.toml"], "cannot be read"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_refused_in_one_line(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(*words)
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


def copied() -> str:
    """A published protocol under a name of the user's, as docs/protocols.md says."""
    text = advbench("protocols", "show", "digits-linf", "--toml").stdout
    assert 'name = "digits-linf/2"' in text
    return text.replace('name = "digits-linf/2"', 'name = "mine/1"')


def test_a_protocol_that_is_wrong_names_file_and_key(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(copied().replace('"3/20"', "0.15"))
    assert f"{path}: threat.eps: " in refusal("run-all", "--protocol", path)


def test_a_network_or_data_set_that_there_is_not_is_refused_before_any_work(tmp_path):
    path = tmp_path / "mine.toml"
    text = copied()
    path.write_text(text.replace('"smallcnn"', '"bignet"'))
    assert "no 'bignet'; there are: " in refusal("run-all", "--protocol", path, "--store", tmp_path / "runs")
    path.write_text(text.replace('name = "digits"', 'name = "imagenet"').replace('"none"', '"resized-crop-flip"'))
    said = refusal("run-all", "--protocol", path, "--store", tmp_path / "runs", "--data", tmp_path)
    assert "imagenet: no data in" in said
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback_wherever_it_stands():
    for words in (["--debug", "methods", "show", "pgd"], ["methods", "show", "pgd", "--debug"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert "Traceback" in result.stderr
        assert "error: no method 'pgd'" in result.stderr


def test_a_bug_is_one_line_and_exit_code_1(monkeypatch):
    monkeypatch.setattr("advbench.benchmark.protocol.published", lambda: 1 / 0)
    result = advbench("protocols", code=1)
    assert result.stderr.startswith("error: ZeroDivisionError: ")
    assert "--debug" in result.stderr


def test_an_interrupt_says_how_to_go_on(monkeypatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("advbench.benchmark.protocol.published", interrupt)
    assert "goes on" in advbench("protocols", code=130).stderr


def test_hyphens_and_underscores_of_methods_are_the_same(tmp_path):
    words = ("run-all", "--dry-run", "--store", tmp_path, "--seeds", "0")
    assert "digits-linf/2 pgd_at seed 0" in advbench(*words, "--methods", "pgd-at").stdout
    assert advbench("methods", "show", "pgd-at").stdout.startswith("# PGD-AT\n")
    assert "kd_swa has no hyper-parameter" in refusal(*words, "--methods", "kd-swa", "--set", "kd-swa.zzz=3")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """`own(key=value of the data, …)`: a protocol of the user; there are no data."""
    monkeypatch.setenv("ADVBENCH_DATA", str(tmp_path / "data"))

    def write(protocol="cifar10-linf", **data):
        text = advbench("protocols", "show", protocol, "--toml").stdout
        lines = re.sub(r'^name = ".*/.*"$', 'name = "own"', text, count=1, flags=re.MULTILINE).splitlines()
        at = lines.index("[data]") + 1
        kept = [line for line in lines[at:] if line.partition(" =")[0] not in data]
        given = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
        (tmp_path / "own.toml").write_text("\n".join([*lines[:at], *given, *kept]), encoding="utf-8")
        return "run-all", "--dry-run", "--protocol", tmp_path / "own.toml", "--methods", "standard", "--store", tmp_path

    return write


def test_work_that_cannot_begin_is_refused_before_it_is_estimated(own, tmp_path, monkeypatch):
    assert "imagenet: no data in" in refusal(*own("imagenet-linf"))
    assert "leave 0 training and" in refusal(*own(validation=60_000))
    assert "leave 50 training and" in refusal(*own(validation=49_950))
    assert "leave 0 training and" in refusal(*own("digits-linf", test=10**9, validation=1))
    assert "no data in" in refusal(*own(name="mine"))
    assert "own standard seed 0" in advbench(*own()).stdout  # CIFAR-10 is fetched when work begins
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "1.0 kB are free there" in refusal(*own())


def test_a_place_for_results_is_tried_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    words = ("evaluate", "x.py:net", "--protocol", "digits-linf", "--out")
    assert "no folder that may be written into" in refusal(*words, tmp_path / "file/a.json")
    assert "is a directory" in refusal(*words, tmp_path)
    assert "no folder" not in refusal(*words, tmp_path / "new/folder/a.json")
    assert not (tmp_path / "new").exists()


# Job files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "train"}', "3"])
def test_a_file_that_is_no_job_is_refused(tmp_path, text):
    path = tmp_path / "job.json"
    path.write_text(text)
    assert f"{path}: not " in refusal("job", path)


def test_a_job_of_a_broken_protocol_is_refused(tmp_path):
    plain = Job("train", RunSpec(DIGITS, "standard", {}, 0)).to_plain()
    plain["run"]["protocol"]["training"]["epochs"] = 0
    path = tmp_path / "job.json"
    path.write_text(json.dumps(plain))
    assert "training.epochs" in refusal("job", path)


# Catalogues -----------------------------------------------------------------------------------------------------------


def test_protocols_lists_all_with_their_digests():
    said = advbench("protocols").stdout
    for name, protocol in published().items():
        (line,) = (line for line in said.splitlines() if line.split()[:1] == [name])
        assert protocol.digest[:12] in line


@pytest.mark.parametrize("name", sorted(published()))
def test_a_protocol_shown_as_toml_or_json_reads_back(name):
    protocol = published()[name]
    as_toml = Protocol.from_plain(tomllib.loads(advbench("protocols", "show", name, "--toml").stdout))
    as_json = Protocol.from_plain(json.loads(advbench("protocols", "show", name, "--json").stdout))
    assert as_toml == as_json == protocol


def test_a_protocol_shown_for_people_has_its_digest_and_every_key(tmp_path):
    said = advbench("protocols", "show", "digits-linf").stdout
    assert f"official, sha256 {DIGITS.digest}" in said
    assert "threat.eps                  3/20" in said
    path = tmp_path / "mine.toml"
    path.write_text(copied().replace("epochs = 15", "epochs = 2"))
    assert "unofficial, sha256" in advbench("protocols", "show", path).stdout


def test_methods_lists_all_and_shows_one():
    from advbench.benchmark import discovery

    said = advbench("methods").stdout
    for name in discovery.names():
        assert f"\n{name} " in said
    card = advbench("methods", "show", "trades").stdout
    assert card.startswith("# TRADES\n")
    assert "@inproceedings{" in card


def test_datasets_say_what_is_here(tmp_path):
    said = advbench("datasets", "--data", tmp_path).stdout
    assert f"data root: {tmp_path}" in said
    assert "digits" in said
    assert "cifar-10-batches-py" in said


def test_doctor_finds_what_is_here_and_what_is_missing(tmp_path, monkeypatch):
    said = advbench("doctor", "--data", tmp_path, "--store", tmp_path / "runs").stdout
    assert "ok: torch: " in said
    assert "note: data: imagenet" in said
    assert said.endswith("ready\n")
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    monkeypatch.setattr("advbench.benchmark.review.doctor._installed", lambda name: None if name == "scipy" else "1")
    broken = advbench("doctor", "--data", tmp_path, "--store", tmp_path, code=1).stdout
    assert "missing: scipy: not installed" in broken
    assert "pip install scipy" in broken


def test_doctor_notices_a_store_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("advbench.benchmark.review.doctor._writable", lambda _folder: False)
    assert "not writable" in advbench("doctor", "--store", tmp_path, "--data", tmp_path, code=1).stdout


# A store without runs -------------------------------------------------------------------------------------------------


def test_status_and_prune_of_an_empty_store(tmp_path):
    assert "no runs yet" in advbench("status", "--store", tmp_path).stdout
    assert "nothing to remove" in advbench("prune", "--store", tmp_path).stdout


def test_status_of_a_suite_shows_what_is_missing(tmp_path):
    said = advbench("status", "--store", tmp_path, "--methods", "standard,kd_swa", "--seeds", "0").stdout
    assert "digits-linf/2 kd_swa seed 0" in said
    assert "digits-linf/2 pgd_at seed 0" in said, "teachers are part of it"


def test_dry_run_lists_the_jobs_and_does_nothing(tmp_path):
    words = ("--methods", "kd_swa", "--seeds", "0-1", "--store", tmp_path / "runs", "--jobs", "2")
    said = advbench("run-all", "--dry-run", *words).stdout
    rows = [line for line in said.splitlines() if line.startswith("digits-linf/2 ")]
    assert [row.split("  ")[0] for row in rows] == [
        f"digits-linf/2 {method} seed {seed}" for seed in (0, 1) for method in ("pgd_at", "standard", "kd_swa")
    ] or len(rows) == 6
    assert "attack best (" in said
    assert "about" in said.splitlines()[-1]
    assert "disk about" in said.splitlines()[-1]
    assert "2 jobs at once on" in said.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


def test_threads_sleep_where_others_need_the_cores(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    advbench("protocols")
    assert os.environ["GOMP_SPINCOUNT"] == "7", "what the user set stays"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    advbench("protocols")
    assert int(os.environ["GOMP_SPINCOUNT"]) < 10_000


def completed(line: str) -> set[str]:
    """What a shell offers at the end of a line."""
    from click.shell_completion import BashComplete

    from advbench.benchmark.cli import main

    words = line.split(" ")
    found = BashComplete(main, {}, "advbench", "_ADVBENCH_COMPLETE").get_completions(words[1:-1], words[-1])
    return {item.value for item in found}


def test_shells_complete_methods_protocols_and_runs(tmp_path, monkeypatch):
    from advbench.benchmark import discovery
    from advbench.benchmark.cli.options import METHOD

    assert tuple(METHOD.known()) == discovery.names()
    assert completed("advbench train trades_a") == {"trades_awp"}
    assert completed("advbench run-all --methods standard,mar") == {"standard,mart"}
    assert "cifar10-linf/2" in completed("advbench leaderboard --protocol cifar10-linf")
    monkeypatch.setenv("ADVBENCH_STORE", str(tmp_path))
    (tmp_path / "digits-linf-2" / "trades-s0-0123456789abcdef").mkdir(parents=True)
    assert completed("advbench evaluate 01") == {"0123456789abcdef"}
