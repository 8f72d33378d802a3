"""Run benchmarks: ``python -m benchmarks NAME ...``; ``--list`` shows the names."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from ._machine import describe_machine
from ._measure import warn_if_busy
from ._table import Table

NAMES = (
    "accuracy",
    "round",
    "cohort",
    "memory",
    "serving",
    "jobs",
    "distribution",
    "imports",
    "cost",
    "limits",
    "ranking",
    "new_ratings",
    "against",
    "compiled",
    "peers",
    "paper_round",
    "paper_reproduction",
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument("--repeats", type=int, help="runs of everything that is timed")
    parser.add_argument("--components", type=int, nargs="+", help="values of n_components")
    parser.add_argument("--ratings", type=int, nargs="+", help="sizes of make_ratings")
    parser.add_argument("--users", type=int, nargs="+", help="sizes of the population")
    parser.add_argument(
        "--movielens", metavar="VARIANT", help="MovieLens ratings instead of make_ratings"
    )
    parser.add_argument("--checkout", type=Path, help="folder of another version")
    parser.add_argument("--large", action="store_true", help="with the sizes that take minutes")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    parser.add_argument(
        "--into", type=Path, help="also put the tables into their places in this Markdown file"
    )
    parser.add_argument("--figure", type=Path, help="also draw the curves to this file")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}: --list shows their names")
    if not options.names and not options.list:
        parser.error("name a benchmark, or --list them")
    return options


def main() -> None:
    options = parse_arguments()
    if options.list:
        for name in NAMES:
            summary = importlib.import_module(f".{name}", __package__).__doc__.splitlines()[0]
            print(f"{name:20}{summary}")
        return
    machine, results = describe_machine(), []
    print(machine.text())
    for name in options.names:
        warn_if_busy()
        tables = []
        for table in importlib.import_module(f".{name}", __package__).run(options):
            table.command = command(name, options)
            print("\n" + table.text(), flush=True)
            tables.append(table)
            keep([*results, *tables], machine, options)
        results += tables
        if options.into:
            put_into(options.into, name, [*(t.markdown() for t in tables), machine.text()])


def command(name: str, options: argparse.Namespace) -> str:
    """What makes the tables of a benchmark, without what says where to put them."""
    words = ["python -m benchmarks", name]
    for option in ("repeats", "components", "ratings", "users", "movielens", "large"):
        value = getattr(options, option)
        if value:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [f"--{option}", *map(str, values)]
    return " ".join(words)


def put_into(path: Path, name: str, paragraphs: list[str]) -> None:
    """Replace what stands between the markers of a benchmark in a Markdown file."""
    begin, end = f"<!-- benchmark: {name} -->", "<!-- /benchmark -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{path} has no place for {name}: expected {begin} ... {end}")
    text = "\n\n".join([before + begin, *paragraphs, end + after])
    path.write_text(text, encoding="utf-8")


def keep(results: list[Table], machine, options: argparse.Namespace) -> None:
    """Write what there is so far: a later benchmark may be interrupted."""
    if options.markdown:
        lines = [machine.text(), *(table.markdown() for table in results)]
        options.markdown.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    if options.json:
        content = {"machine": machine.facts, "tables": [table.as_dict() for table in results]}
        options.json.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
