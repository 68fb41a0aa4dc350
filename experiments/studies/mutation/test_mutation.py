import ast
import json
import sys

import pytest

from studies.mutation import study
from studies.mutation.mutants import mutants


def faults(source):
    return [(mutant.before, mutant.after) for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", [("a < b", "a <= b")]),
        ("a - b", [("a - b", "a + b")]),
        ("a and not b", [("a and not b", "a or not b"), ("not b", "b")]),
        ("x[-1]", [("1", "2")]),
        ("x = 1e-12", [("1e-12", "1.000000000001")]),
        ("f(axis=True)", [("f(axis=True)", "pass"), ("True", "False")]),
        ("y = f(a, b)", [("f(a, b)", "f(b, a)")]),
        ("y = jnp.where(t, a, b)", [("jnp.where(t, a, b)", "jnp.where(t, b, a)")]),
        ("y = lax.stop_gradient(x)", [("lax.stop_gradient(x)", "x")]),
        ("y = keys.for_draw(key, Draw.REAL_A)", [("keys.for_draw(key, Draw.REAL_A)", "key")]),
        ("y = lax.pmean(x, 'data')", [("lax.pmean(x, 'data')", "x")]),
        ("metrics | {'a': b}", [("metrics | {'a': b}", "metrics")]),
        ("a += b", [("a += b", "pass")]),
        ("[a for a in b if a]", [("a", "not a")]),
        ("if ready():\n    raise ValueError(f'got {1 + n}')",
         [("ready()", "not ready()"), ("raise ValueError(f'got {1 + n}')", "pass")]),
    ],
)  # fmt: skip
def test_mutants_have_these_faults(source, expected):
    assert faults(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Adds 1 + 1."""',
        "def f(x: Literal[1] = y) -> tuple[3]: ...",
        "@lru_cache(maxsize=4)\ndef f(): ...",
        "logging.info('%d', a + 1)",
        "x: int = 16",
        "y = zip(a, b, strict=True)",
        "y = 'a' + b",
        "y = f'{a + 1}'",
        "y = f(a, b[c])",
        "y = f(a, a)",
        "class C(NamedTuple, total=False): ...",
        "A = B | C",
    ],
)
def test_mutants_leave_alone_what_decides_nothing(source):
    assert faults(source) == []


def test_mutants_differ_from_source_in_one_place():
    source = "def f(ä, b):\n    # äöü\n    return g(\n        ä < 1,  # ß\n        b,\n    )\n"
    for mutant in mutants(source):
        before, after = (ast.unparse(ast.parse(text)) for text in (source, mutant.source))
        assert before != after and after.replace(mutant.after, mutant.before) == before
        assert mutant.source.count("#") == 2


def test_mutants_keep_names_when_other_lines_change():
    source = "a = b + c\na = b + c\n"
    names = [mutant.name for mutant in mutants(source)]
    assert len(set(names)) == 2
    assert [mutant.name for mutant in mutants(f"x = y < z\n\n{source}")][1:] == names


def test_choose_takes_more_of_the_same():
    few, many = study.choose(0, 5), study.choose(0, 30)
    assert many[:5] == few and study.choose(1, 5) != few
    assert len({module for module, _ in many}) > 5


def test_tests_of_modules_exist():
    files = [name for names in study.TESTS.values() for name in names]
    assert [name for name in files if not (study.TREE / "tests" / name).exists()] == []


@pytest.mark.process
def test_main_tells_caught_from_survived_and_continues(tmp_path, monkeypatch, capsys):
    """In a tiny library one fault is caught, three are not, and one does not import."""
    for name, text in {
        "genjax/one.py": "LIMIT = {0: 7}[0]\n\ndef add(a, b):\n    while a < 0:\n        a += 1\n    return a + b\n",
        "tests/test_one.py": "import genjax.one\n\ndef test_adds():\n    assert genjax.one.add(2, 2) == 4\n",
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['process']", "experiments/a.py": "", "README.md": "",
    }.items():  # fmt: skip
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    monkeypatch.setattr(study, "TREE", tmp_path / "tree")
    monkeypatch.setattr(study, "TESTS", {"one.py": ("test_one.py",)})
    monkeypatch.setattr(sys, "argv", ["study.py", "--workdir", str(tmp_path / "work")])
    found = study.main()
    rows = {(row["before"], row["line"]): row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["a + b", 6]["outcome"] == "caught" and rows["a + b", 6]["test"] == "test_one.py::test_adds"
    assert rows["7", 1]["outcome"] == rows["a < 0", 4]["outcome"] == rows["a += 1", 5]["outcome"] == "survived"
    assert rows["0", 1]["outcome"] == "not imported"
    assert found["caught"] == 1 and found["mutants"] == found["caught"] + found["survived"]
    assert found["share"] == pytest.approx(1 / found["mutants"], abs=1e-4)
    (tmp_path / "tree" / "tests" / "test_two.py").write_text(
        "def test_starts(): ...\ndef test_ends():\n    while True:\n        pass\n"
    )
    monkeypatch.setattr(study, "SECONDS", 0.5)
    assert study.run_tests(tmp_path / "tree", ["test_two.py"])[:2] == ("not ended", None)
    (tmp_path / "tree" / "tests" / "test_three.py").write_text("1 / 0\n")
    assert study.run_tests(tmp_path / "tree", ["test_three.py", "test_one.py"])[:2] == ("not imported", None)
    monkeypatch.setattr(study, "run_tests", None)  # nothing is left to be tried
    assert study.main() == found
