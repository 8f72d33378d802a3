"""The layering rule of the package, enforced on the import statements themselves.

1. The parts import the records (`_types`), the contracts, the kernels, the shared helpers and
   third-party packages, never each other.
2. `_round`, the page, imports `_types` only and never asks what kind its parts are.
3. `_distribution`, which maps steps over chunks of clients, imports the shared helpers.
4. `_training` makes a `Fitted` record and `_answers` reads it; neither knows of the other. Only
   the estimators, and what makes their docstrings of it, import both.
5. Nothing imports an estimator but what stands on it: the package itself, `presets`,
   `persistence` and `_transformer`. `inspection` asks one that it is handed.
6. Optional packages are imported inside functions; private or version-dependent parts of
   scikit-learn in `_compat` alone.
"""

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "sklearn_fedrecon"
ROOT = Path(__file__).parents[1] / PACKAGE
REQUIRED = {"numpy", "scipy", "sklearn", "joblib", "threadpoolctl"}  # the last by scikit-learn
VERSION_DEPENDENT = {"sklearn.callback"}
MAX_LINES = 450

SHARED = {"_types", "_contracts", "_kernels", "_compat", "_optional", "_random", "exceptions"}
PARTS = {
    "aggregation",
    "client_update",
    "reconstruction",
    "sampling",
    "server_optimizers",
    "splitting",
}
TOOLS = {"communication", "datasets", "inspection", "metrics", "model_selection"}
ESTIMATORS = {"_estimator", "_transformer"}
EVERYTHING = SHARED | PARTS | TOOLS | ESTIMATORS
EVERYTHING |= {"_answers", "_distribution", "_encoding", "_fitted", "_html", "_recommender"}
EVERYTHING |= {"_round", "_training", "persistence", "presets"}

# What a module may import from the package. A new module is given its place here.
MAY_IMPORT = {
    "_types": set(),
    "_compat": set(),
    "_html": set(),
    "_optional": set(),
    "_random": set(),
    "exceptions": set(),
    "_contracts": {"_types"},
    "_kernels": {"_types"},
    **dict.fromkeys(PARTS, SHARED),
    "communication": {"_types"},
    "metrics": SHARED,
    "model_selection": SHARED | {"metrics", "_answers"},
    "inspection": SHARED | {"metrics", "model_selection", "_answers"},
    "datasets": SHARED | {"_encoding"},
    "_encoding": SHARED,
    "_round": {"_types"},
    "_distribution": SHARED,
    "_fitted": SHARED | {"_encoding", "_round"},
    "_training": SHARED
    | PARTS
    | {"_distribution", "_encoding", "_fitted", "_round", "communication", "datasets"},
    "_answers": SHARED | {"_distribution", "_encoding", "_fitted"},
    "_recommender": {"_answers", "_fitted"},
    "_estimator": SHARED | {"_html", "_recommender", "_training"},
    "_transformer": EVERYTHING - {"persistence", "presets"},
    "presets": PARTS | {"_estimator"},
    "persistence": EVERYTHING - {"presets"},
    "__init__": EVERYTHING,
}


@dataclass(frozen=True)
class Import:
    """One imported name, as an absolute dotted path."""

    target: str
    line: int
    top_level: bool

    @property
    def root(self):
        return self.target.split(".")[0]

    @property
    def layer(self):
        """First module below the package; `__init__` for the package itself."""
        return [*self.target.split("."), "__init__"][1]


def layer_of(module):
    """`datasets._base` lives in the layer `datasets`."""
    return module.split(".")[0]


def absolute(node, module, is_package):
    """Absolute dotted path of the module that a `from ... import` statement names."""
    if not node.level:
        return node.module
    parts = [PACKAGE, *([] if module == "__init__" else module.split("."))]
    depth = node.level - (1 if is_package else 0)
    base = parts[: len(parts) - depth] if depth else parts
    return ".".join([*base, *([node.module] if node.module else [])])


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(source, module, is_package=False):
    """Every import of a module; names below the package are followed to their module."""
    found = []

    def visit(node, top_level):
        if is_type_checking(node):
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, top_level) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, is_package)
            targets = [f"{base}.{alias.name}" for alias in node.names]
            found.extend(Import(target, node.lineno, top_level) for target in targets)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, top_level and not inside)

    visit(ast.parse(source), top_level=True)
    return found


def is_text(node):
    """A string, or a list of things one of which is a string."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return any(is_text(element) for element in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def kind_questions(source):
    """Places where code asks what kind a part is: type tests and compared strings."""
    asking = {"isinstance", "issubclass", "type", "hasattr", "getattr"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in asking:
            yield f"line {node.lineno}: {node.func.id}() asks what kind a part is"
        elif isinstance(node, ast.Match):
            yield f"line {node.lineno}: match asks what kind a part is"
        elif isinstance(node, ast.Compare) and any(map(is_text, [node.left, *node.comparators])):
            yield f"line {node.lineno}: compares with a string"


def violations(source, module, is_package=False):
    """Sentences about what a module does against the layering rule."""
    layer = layer_of(module)
    bad = []
    for found in imports_of(source, module, is_package):
        where = f"line {found.line}"
        if found.root == PACKAGE:
            if found.layer != layer and found.layer not in MAY_IMPORT.get(layer, ()):
                bad.append(f"{where}: {module} may not import {found.layer}")
        elif found.top_level and found.root not in REQUIRED | sys.stdlib_module_names:
            bad.append(f"{where}: import the optional {found.root} inside a function")
        if found.root == "sklearn" and layer != "_compat":
            private = any(part.startswith("_") for part in found.target.split("."))
            if private or any(found.target.startswith(name) for name in VERSION_DEPENDENT):
                bad.append(f"{where}: {found.target} belongs into _compat")
    if layer == "_round":
        bad.extend(kind_questions(source))
    return bad


def modules():
    """Name, path and whether it is a package, of every file below the package."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package and len(parts) > 1 else parts)
        found.append(pytest.param(name, path, is_package, id=name))
    return found


def test_every_module_has_its_place():
    here = {layer_of(parameters.values[0]) for parameters in modules()}
    homeless = sorted(here - set(MAY_IMPORT))
    assert not homeless, f"give {homeless} a layer in MAY_IMPORT of {Path(__file__).name}"


@pytest.mark.parametrize(("module", "path", "is_package"), modules())
def test_module_keeps_the_layering_rule(module, path, is_package):
    assert violations(path.read_text(encoding="utf-8"), module, is_package) == []


@pytest.mark.parametrize(("module", "path", "is_package"), modules())
def test_module_fits_on_a_few_screens(module, path, is_package):
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_LINES, f"{module} has {n_lines} lines: split it"


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("sampling", "from . import splitting", "may not import splitting"),
        ("sampling", "from .splitting import RatingSplit", "may not import splitting"),
        ("sampling", "import sklearn_fedrecon.splitting", "may not import splitting"),
        ("sampling", "def f():\n    from . import splitting", "may not import splitting"),
        ("sampling", "from ._round import run_round", "may not import _round"),
        ("sampling", "from sklearn_fedrecon import sampling, metrics", "may not import metrics"),
        ("sampling", "import sklearn_fedrecon", "may not import __init__"),
        ("_kernels._blocks", "from .._estimator import X", "may not import _estimator"),
        ("_kernels._blocks", "from ..sampling import X", "may not import sampling"),
        ("_round", "from ._kernels import X", "may not import _kernels"),
        ("_round", "def f(p):\n    return isinstance(p, int)", "isinstance() asks"),
        ("_round", "def f(p):\n    return p.kind == 'sgd'", "compares with a string"),
        ("_round", "def f(p):\n    return p in ['sgd']", "compares with a string"),
        ("_round", "def f(p):\n    match p:\n        case int():\n            pass", "match asks"),
        ("_answers._predicting", "from .._estimator import X", "may not import _estimator"),
        ("_answers._predicting", "from .._training import X", "may not import _training"),
        ("_training._fit", "from .._answers import X", "may not import _answers"),
        ("_training._loop", "from .._round import X\nfrom ..sampling import Y", None),
        ("_recommender", "from ._training import X", "may not import _training"),
        ("model_selection._grading", "from ..splitting import X", "may not import splitting"),
        ("model_selection._grading", "from ..metrics import rmse", None),
        ("datasets._files", "from ..metrics import X", "may not import metrics"),
        ("metrics", "import pandas as pd", "optional pandas inside a function"),
        ("metrics", "if True:\n    import rich", "optional rich inside a function"),
        ("metrics", "from sklearn.utils._param_validation import X", "belongs into _compat"),
        ("metrics", "from sklearn.base import _fit_context", "belongs into _compat"),
        ("metrics", "from sklearn.callback import X", "belongs into _compat"),
        ("metrics", "import os\nimport numpy as np\nfrom sklearn.utils import Bunch", None),
        ("metrics", "from ._types import X\nfrom . import _kernels", None),
        ("metrics", "def f():\n    import pandas", None),
        ("datasets._files", "from ._columns import X\nfrom .._compat import Y", None),
        ("_compat", "from sklearn.utils._param_validation import X", None),
        ("_estimator", "from . import _recommender\nfrom ._training import X", None),
    ],
)
def test_the_checker_tells_right_from_wrong(module, source, message):
    found = violations(source, module)
    if message is None:
        assert found == []
    else:
        assert len(found) == 1
        assert message in found[0]
