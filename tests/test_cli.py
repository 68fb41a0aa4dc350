"""The command line of trainings: help, errors, and what is said first."""

import ast
import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

import convert_torch
import restore
import sample
from configs import cyclegan, vae
from genjax import cli, flag_help
from genjax.families import FAMILIES

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def said(capsys, monkeypatch, configs, *args, columns=80):
    """What the command prints before it ends."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.argv", ["train.py", *args])
    with pytest.raises(SystemExit), flag_help.REGISTRY:
        cli.choose_config(configs)
    captured = capsys.readouterr()
    return captured.out + captured.err


def broken(lines, width):
    """Lines of flags' help that end although the first word of the next one would fit."""
    for line, following in zip(lines, lines[1:], strict=False):
        inside = line.startswith(" " * 8) and following.startswith(" " * 8)
        if inside and len(line) + 1 + len(following.split()[0]) <= width:
            yield line


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("configs", "name"), [(vae.CONFIGS, "digits"), (cyclegan.CONFIGS, "folder")])
def test_help_wraps_at_the_width_alone(capsys, monkeypatch, configs, name, columns):
    lines = [line.rstrip() for line in said(capsys, monkeypatch, configs, name, "--help", columns=columns).splitlines()]
    assert all(len(line) <= columns for line in lines if not line.startswith("$"))
    assert len(lines) > 150 and not list(broken(lines, columns))


def commands():
    """Scripts that a person calls, by their module docstring."""
    paths = [path for path in EXPERIMENTS.rglob("*.py") if "flag_help" in path.read_text() and "test_" not in path.name]
    return {str(path.relative_to(EXPERIMENTS)): ast.get_docstring(ast.parse(path.read_text())) for path in paths}


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_description_wraps_docstrings_at_the_width_alone(monkeypatch, columns):
    """Of every command, and in the way that tyro shows it."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name, doc in commands().items():
        shown = flag_help.description(doc)
        for paragraph in shown.split("\n\n"):
            lines = [line for line in paragraph.splitlines() if not line.startswith("$")]
            assert all(len(line) <= columns for line in lines), (name, lines)
            assert not any(
                len(line) + 1 + len(following.split()[0]) <= columns
                for line, following in zip(lines, lines[1:], strict=False)
            ), (name, lines)
        assert "".join(shown.split()) == "".join(doc.split())


def test_commands_describe_themselves_by_flag_help():
    """Tyro itself joins no lines of a module's docstring, and wraps none."""
    sources = [path.read_text() for path in EXPERIMENTS.rglob("*.py") if "test_" not in path.name]
    plain = [text for text in sources if "description=__doc__" in text or "subcommand_cli" in text]
    assert len(commands()) > 30 and len(plain) == 1 and "Nothing of genjax is imported here" in plain[0]


def test_call_verb_wraps_help_at_the_width(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for script in (sample, restore, convert_torch):
        for verb in script.VERBS:
            monkeypatch.setattr("sys.argv", ["script.py", verb, "--help"])
            with pytest.raises(SystemExit), flag_help.REGISTRY:
                flag_help.call_verb(script.VERBS, script.__doc__)
            usage, *lines = capsys.readouterr().out.splitlines()
            assert usage.startswith(f"usage: script.py {verb} [") and max(map(len, lines)) <= 80


def test_call_verb_calls_the_verb_that_is_named(capsys, monkeypatch):
    def double(number: int) -> int:
        return 2 * number

    def negate(number: int) -> int:
        return -number

    verbs = {"double": double, "negate": negate}
    for verb, expected in (("double", 10), ("negate", -5)):
        monkeypatch.setattr("sys.argv", ["script.py", verb, "--number", "5"])
        assert flag_help.call_verb(verbs, "Calculates.") == expected
    for wrong in ([], ["halve"], ["--number", "5"]):
        monkeypatch.setattr("sys.argv", ["script.py", *wrong])
        with pytest.raises(SystemExit):
            flag_help.call_verb(verbs, "Calculates.")
        assert "double" in capsys.readouterr().err


def test_help_describes_all_flags(capsys, monkeypatch):
    _, _, flags_help = said(capsys, monkeypatch, cyclegan.CONFIGS, "folder", "--help").partition(" options ")
    lines = flags_help.splitlines()
    flags = [i for i, line in enumerate(lines) if line.startswith("  --")]
    assert len(flags) > 80 and not [lines[i] for i in flags if len(lines[i + 1].partition("(default")[0].strip()) < 15]


def test_help_without_a_name_lists_configurations(capsys, monkeypatch):
    text = said(capsys, monkeypatch, vae.CONFIGS, "--help")
    assert all(f"• {name}" in text for name in vae.CONFIGS) and "Hardware" not in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--data.batchsize", "8"), "Unrecognized options: --data.batchsize"),
        (("--data.batch-size", "many"), "Error parsing --data.batch-size: invalid literal for int()"),
        (("--train.num-steps", "0"), "Error parsing train: --train.num-steps must be at least 1, got 0"),
        (("--data.channels", "1", "1"), "a VAE has one domain, and --data.channels names two, (1, 1): give"),
    ],
)
def test_errors_are_about_the_named_configuration(capsys, monkeypatch, flags, expected):
    text = said(capsys, monkeypatch, vae.CONFIGS, "digits", "--workdir", "x", *flags, columns=120)
    assert expected in text and "dummy" not in text
    assert "train.py digits --help" in text and not any(name in text for name in ("faces", "satellite", "mnist"))


@pytest.mark.parametrize("first", ["digit", "--workdir"])
def test_choose_config_wants_a_name_first(capsys, monkeypatch, first):
    text = said(capsys, monkeypatch, vae.CONFIGS, first, "digits")
    assert text.startswith(f"error: no configuration is called '{first}': give quickstart, mnist5k, digits")


def test_choose_config_changes_only_what_is_given():
    chosen = cli.choose_config(vae.CONFIGS, ["digits", "--workdir", "x", "--vae.beta", "2"])
    assert chosen.vae.beta == 2 and chosen.workdir == "x" and chosen.train == vae.digits().train


def test_train_says_what_it_trains_and_where_its_report_is(monkeypatch, caplog, tmp_path):
    result = SimpleNamespace(stopped_by=None, step=1, resumed_from=0, digest="", test={})
    monkeypatch.setattr(cli, "fit", lambda *_, **__: logging.info("trained") or result)
    monkeypatch.setattr(cli.report, "write_run", lambda *_: None)
    caplog.set_level(logging.INFO)
    config = dataclasses.replace(vae.digits(), workdir=str(tmp_path))
    cli.train(config)
    cli.train(config, heading=f"1 of 2: {cli.title(config)}")
    last = f"the report of this training: {tmp_path / 'report.html'}"
    assert [line.partition(",")[0] for line in caplog.messages] == [
        "VAE on digits", "trained", last, "1 of 2: VAE on digits", "trained", last
    ]  # fmt: skip


@pytest.mark.parametrize("task", FAMILIES.values(), ids=list(FAMILIES))
def test_tasks_have_titles_and_headlines(task):
    assert task.title and len(set(task.headline)) == len(task.headline) >= 3
