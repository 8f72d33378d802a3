"""What README.md and error messages promise: commands that run, extras that exist."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import benchmarks.__main__ as benchmarks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands():
    """The command lines below the markers that `.ci/run` looks for."""
    pattern = r"<!-- command: (\w+) -->\n```bash\n(.*?)\n```"
    return dict(re.findall(pattern, README, re.DOTALL))


def test_the_python_of_the_first_screen_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(code, names)
    assert len(names["items"]) == len(names["scores"]) == 5


def test_two_commands_each_on_one_line():
    assert set(commands()) == {"quickstart", "test"}
    assert not any("\n" in command for command in commands().values())
    assert commands()["test"].endswith("-m pytest")


@pytest.mark.parametrize("name", ["quickstart", "test"])
def test_ci_runs_the_command_of_the_readme(name):
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (function,) = re.findall(r"^readme_command\(\) \{.*?^\}", script, re.DOTALL | re.MULTILINE)
    shown = subprocess.run(
        ["bash", "-c", f"{function}\nreadme_command {name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == commands()[name]
    assert f"run_readme_command {name}" in script


def test_python_of_the_commands_is_the_oldest_supported():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert all(c.startswith(f"python{oldest} -m venv") for c in commands().values())


def test_extras_that_errors_advise_exist_and_are_documented():
    sources = "".join(path.read_text() for path in (ROOT / "sklearn_fedrecon").rglob("*.py"))
    advised = set(re.findall(r"sklearn-fedrecon\[(\w+)\]", sources))
    advised |= set(re.findall(r'optional_module\("[\w.]+", "(\w+)"', sources))
    extras = set(PROJECT["optional-dependencies"])
    assert "pandas" in advised
    assert advised <= extras
    documented = (ROOT / "docs" / "getting_started.md").read_text()
    assert [extra for extra in extras if f"`{extra}`" not in documented] == []


def test_files_that_are_named_exist():
    files = re.findall(r"\]\((?!http)([^)]+)\)", README)
    files += re.findall(r"examples/\w+\.py", README)
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_page_of_the_guide_is_linked():
    links = set(re.findall(r"\]\(([^)]+)\)", README))
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/guide").glob("*.md")}
    assert pages - links == {"docs/guide/index.md"}


def test_results_are_where_the_benchmark_puts_them_and_name_their_command(tmp_path):
    ((name, block),) = re.findall(
        r"<!-- benchmark: (\w+) -->\n(.*?)<!-- /benchmark -->", README, re.DOTALL
    )
    assert name in benchmarks.NAMES
    assert f"(`python -m benchmarks {name}`)" in block
    copy = tmp_path / "README.md"
    copy.write_text(README, encoding="utf-8")
    benchmarks.put_into(copy, name, ["other results"])
    assert copy.read_text(encoding="utf-8") == README.replace(block, "\nother results\n\n")
