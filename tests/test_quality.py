"""The bar that the code is held to, read from its source; each rule is first shown to bite."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from grid.wire.problems import PROBLEMS, GridError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "problems"

Sources = dict[str, str]  # dotted name of a module to its text
Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

parse = cache(ast.parse)


def sources_under(package: Path) -> Sources:
    """Every module of a package; a package goes by its own name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        dotted = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        found[dotted.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


GRID = sources_under(ROOT / "grid")
TESTS = {name: text for name, text in sources_under(ROOT / "tests").items() if name != "tests.test_quality"}


# --- imports ------------------------------------------------------------------------------------

# Slow to load, or not always installed: these may wait until they are needed.
HEAVY = {"duckdb", "numpy", "pywebpush", "ray", "sklearn", "torch"}


def named(node: ast.AST) -> Iterator[str]:
    """The dotted names that an import may mean: `from a import b` is `a.b`, or else `a`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_load(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is loaded; what only a type checker reads is not among them."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_load(node.orelse)
        elif not isinstance(node, FUNCTION):
            for part in ("body", "orelse", "finalbody"):
                yield from at_load(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from at_load(handler.body)


def home(name: str, sources: Sources) -> str:
    """The module of ours where an imported name lives; a foreign name's first word."""
    while name not in sources and "." in name:
        name = name.rpartition(".")[0]
    return name


def loads(sources: Sources) -> dict[str, set[str]]:
    """What each module loads with itself."""
    return {
        module: {home(name, sources) for node in at_load(parse(text).body) for name in named(node)} - {module}
        for module, text in sources.items()
    }


def cycle(sources: Sources) -> list[str]:
    """Modules that import each other in a circle, if there are any."""
    try:
        TopologicalSorter(loads(sources)).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def heavy(sources: Sources) -> set[str]:
    """What is heavy, and every module that brings something heavy, itself or through others."""
    graph, found = loads(sources), set(HEAVY)
    while grown := {module for module, loaded in graph.items() if loaded & found} - found:
        found |= grown
    return found


def hidden_imports(sources: Sources) -> list[str]:
    """Imports inside functions, but for those that put off something heavy."""
    excused = heavy(sources)
    return [
        f"{module}:{node.lineno} imports {name} late"
        for module, text in sources.items()
        for function in functions(parse(text))
        for node in ast.walk(function)
        for name in named(node)
        if home(name, sources) not in excused
    ]


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def test_a_circle_of_imports_is_found() -> None:
    later = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import g.a"

    assert cycle({"g.a": "from g import b", "g.b": "try:\n    import g.c\nfinally: pass", "g.c": "from g.a import x"})
    assert not cycle({"g.a": "from g import b", "g.b": later})


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycle(GRID) == []


def test_a_late_import_is_found_unless_it_puts_off_something_heavy() -> None:
    def late(name: str, **others: str) -> list[str]:
        return hidden_imports({"a": f"def f():\n    import {name}", **others})

    assert late("json") == ["a:2 imports json late"]
    assert late("torch.nn") == []
    assert late("b", b="import c", c="from torch import nn") == []
    assert late("b", b="import json") == ["a:2 imports b late"]


def test_no_import_hides_in_a_function() -> None:
    assert hidden_imports(GRID) == []


# --- size ---------------------------------------------------------------------------------------


def span(node: Function | ast.ClassDef | ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def lengths(sources: Sources) -> dict[str, int]:
    """Lines of each function, its docstring and blank lines not counted."""
    found = {}
    for module, text in sources.items():
        lines = text.splitlines()
        for function in functions(parse(text)):
            silent = set(span(function.body[0])) if ast.get_docstring(function) else set()
            counted = [line for line in span(function) if lines[line - 1].strip() and line not in silent]
            found[f"{module}:{function.lineno} {function.name}"] = len(counted)
    return found


def largest_class(sources: Sources) -> int:
    nodes = (node for text in sources.values() for node in ast.walk(parse(text)))
    return max((len(span(node)) for node in nodes if isinstance(node, ast.ClassDef)), default=0)


def test_lines_of_a_function_are_counted_without_its_docstring() -> None:
    source = 'def f():\n    """Says.\n\n    Much.\n    """\n    a = 1\n\n    return a\n'

    assert lengths({"m": source}) == {"m:1 f": 3}
    assert largest_class({"m": "class A:\n" + "    x = 1\n" * 9}) == 10


def test_functions_are_short_and_classes_small() -> None:
    size = lengths(GRID)
    long = {name: lines for name, lines in size.items() if lines > 40}

    assert len(long) < 0.03 * len(size), long
    assert statistics.median(size.values()) <= 9
    assert largest_class(GRID) < 400


# --- words --------------------------------------------------------------------------------------


def public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """What a reader of the module may use: its functions and classes, and their methods."""
    for node in body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def documented(node: Function | ast.ClassDef) -> bool:
    """It has a docstring, or needs none: a problem has its title, an override its original's words."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    titled = isinstance(node, ast.ClassDef) and any("title" in ast.unparse(part) for part in node.body)
    return bool(ast.get_docstring(node)) or titled or bool(decorators & {"override", "overload", "setter"})


def annotated(node: Function | ast.ClassDef) -> bool:
    if isinstance(node, ast.ClassDef):
        return True
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    bare = {argument.arg for argument in every if argument and not argument.annotation}
    return node.returns is not None and bare <= {"self", "cls"}


def unexplained(sources: Sources) -> list[str]:
    """Public functions and classes without a docstring or without types."""
    return [
        f"{module}:{node.lineno} {node.name}"
        for module, text in sources.items()
        for node in public(parse(text).body)
        if not (documented(node) and annotated(node))
    ]


def test_a_public_name_without_words_or_types_is_found() -> None:
    good = 'class A:\n    """Holds."""\n    def f(self, x: int) -> int:\n        """Says."""\n        return x\n'

    assert unexplained({"m": good}) == []
    assert unexplained({"m": good.replace('"""Says."""', "")}) == ["m:3 f"]
    assert unexplained({"m": good.replace("x: int", "x")}) == ["m:3 f"]
    assert unexplained({"m": good.replace('"""Holds."""', "")}) == ["m:1 A"]
    assert unexplained({"m": "def _f(x): ..."}) == []


def test_all_that_is_public_is_explained_and_typed() -> None:
    assert unexplained(GRID) == []


# --- what is never called -----------------------------------------------------------------------

BANNED_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
BANNED_CALLS = {"eval", "exec", "torch.load", "torch.jit.load", "torch.export.load"}


def banned(sources: Sources) -> list[str]:
    """Ways by which foreign bytes become code, or files where they should not."""
    return [
        f"{module}:{node.lineno} {ast.unparse(node)}"
        for module, text in sources.items()
        for node in ast.walk(parse(text))
        if dangerous(node)
    ]


def dangerous(node: ast.AST) -> bool:
    names = set(named(node))
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        pickles = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
        return called in BANNED_CALLS or called.endswith(".extractall") or pickles
    return bool(names & BANNED_CALLS) or any(name.partition(".")[0] in BANNED_MODULES for name in names)


def test_a_dangerous_call_is_found() -> None:
    for line in (
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "from torch import load",
        "torch.export.load(f)",
        "eval(x)",
        "archive.extractall()",
        "np.load(f, allow_pickle=True)",
    ):
        assert banned({"m": line}), line
    assert banned({"m": "model.eval(); json.load(f); np.load(f, allow_pickle=False)"}) == []


def test_foreign_bytes_never_become_code() -> None:
    assert banned(GRID) == []


# --- tests --------------------------------------------------------------------------------------

MOCK = re.compile(r"\b(?:patch\(|patch\.|\w*Mock\(|monkeypatch\.)")
SLEEP = re.compile(r"\bsleep\((?!0\))")  # sleep(0) only lets others run
TEST = re.compile(r"^\s*(?:async )?def test_", re.MULTILINE)


def mocks_per_test(sources: Sources) -> float:
    text = "\n".join(sources.values())
    return len(MOCK.findall(text)) / max(len(TEST.findall(text)), 1)


def sleepers(sources: Sources) -> list[str]:
    return [name for name, text in sources.items() if SLEEP.search(text) and not name.startswith("tests.sim")]


def test_mocks_and_sleeps_are_found() -> None:
    assert mocks_per_test({"t": "def test_a(): patch(Mock())\nasync def test_b(): monkeypatch.setenv()"}) == 1.5
    assert sleepers({"tests.a": "await asyncio.sleep(0.1)", "tests.b": "sleep(0)", "tests.sim.c": "sleep(9)"}) == [
        "tests.a"
    ]


def test_tests_use_fakes_and_never_wait() -> None:
    assert mocks_per_test(TESTS) < 0.1
    assert sleepers(TESTS) == []


# --- problems and their pages -------------------------------------------------------------------


def unexplained_problems(problems: dict[str, type[GridError]], pages: dict[str, str]) -> list[str]:
    """Slugs whose page is missing, has another title or says little, and pages of no problem."""
    return [
        slug
        for slug in sorted(problems.keys() | pages.keys())
        if slug not in problems or not speaks_of(problems[slug], pages.get(slug, ""))
    ]


def speaks_of(problem: type[GridError], page: str) -> bool:
    title, _, rest = page.partition("\n")
    return (
        title == f"# {problem.title}"
        and f"`{problem.slug}`" in rest
        and f"{problem.status}" in rest
        and len(rest) > 200
    )


def test_a_problem_without_a_page_is_found() -> None:
    page = "# Something went wrong on this side\n\n`internal-error`, HTTP 500\n" + "A cause, and what to do. " * 10
    problems: dict[str, type[GridError]] = {"internal-error": GridError}

    assert unexplained_problems(problems, {"internal-error": page}) == []
    assert unexplained_problems(problems, {}) == ["internal-error"]
    assert unexplained_problems(problems, {"internal-error": page[:60]}) == ["internal-error"]
    assert unexplained_problems({}, {"internal-error": page}) == ["internal-error"]


def test_every_problem_has_a_page() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md") if path.stem != "README"}

    assert unexplained_problems(PROBLEMS, pages) == []


# --- what stays on the machine of whoever wrote it ------------------------------------------------

PRIVATE = re.compile(
    r"(?<![\w./-])/(?:home|root|Users|work|mnt)/\w"  # somebody's directories
    r"|https?://[^\s\"')]*(?:pypi|pythonhosted|npmjs|download\.pytorch)"  # where one machine fetched packages
    r"|file://+(?!etc/)\w"  # /etc/passwd is what attacks ask for
)


def tracked() -> list[Path]:
    """Files that are in the repository, or would be with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.is_file() and path != Path(__file__)]


def test_a_path_or_a_registry_of_one_machine_is_found() -> None:
    for text in ("see /home/ann/grid", "https://pypi.example/simple", "'/work/x'", "file:///wheels"):
        assert PRIVATE.search(text), text
    for text in ("GET /v1/work/3", "https://peps.python.org", "/health-check", "homework/root/x"):
        assert not PRIVATE.search(text), text


def test_the_repository_names_no_machine() -> None:
    found = {path.name: match for path in tracked() if (match := PRIVATE.search(path.read_text("utf-8", "replace")))}

    assert found == {}
