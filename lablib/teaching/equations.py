"""Tie each implemented equation three ways: its label in the book, the line of lablib that computes it, a test.

    python -m lablib.teaching.equations           write the appendix "Where each equation lives"
    python -m lablib.teaching.equations --check   fail if the three sets differ, or if the appendix is stale

An equation of the book is implemented when its label begins with `eq-`. The line that computes it ends with the comment
`# eq: eq-gap`, or has it on the line above. A test that can find it wrong is marked `@pytest.mark.eq("eq-gap")`.
"""

import argparse
import ast
import io
import json
import re
import sys
import textwrap
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE, API = Path("book") / "equations.md", Path("book") / "api.md"

LABEL = r"eq-[a-z0-9]+(?:-[a-z0-9]+)*"
FENCED = re.compile(r"^(?P<fence>`{3,}|:{3,})\{math\}[^\n]*\n(?P<body>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
DOLLARS = re.compile(rf"\$\$(?P<body>(?:(?!\$\$).)+)\$\$[ \t]*\((?P<label>{LABEL})\)", re.DOTALL)
OPTION = re.compile(r"^:(?P<name>\w+):[ \t]*(?P<value>\S*)[ \t]*\n", re.MULTILINE)
MARK = re.compile(r"^#\s*eq:\s*(?P<label>.*?)\s*$")


@dataclass(frozen=True)
class Equation:
    """An equation as the book shows it."""

    label: str
    page: str
    formula: str


@dataclass(frozen=True)
class Line:
    """A marked line of lablib: where it stands, in which function, and the statement that it belongs to."""

    label: str
    file: str
    number: int
    function: str
    source: str


@dataclass(frozen=True)
class Check:
    """A test that checks an equation."""

    label: str
    file: str
    name: str


def texts(path: Path) -> Iterator[str]:
    """Yield the Markdown of a page: the whole of a `.md`, each Markdown cell of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield text
    else:
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "markdown":
                yield "".join(cell["source"])


def equations_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the label and the TeX of each labelled equation in a piece of MyST Markdown.

    >>> list(equations_in("$$x \\\\ge 0$$ (eq-sign)"))
    [('eq-sign', 'x \\\\ge 0')]
    """
    for match in FENCED.finditer(text):
        body = textwrap.dedent(match["body"])
        options = dict(OPTION.findall(body))
        if re.fullmatch(LABEL, options.get("label", "")):
            yield options["label"], OPTION.sub("", body).strip()
    for match in DOLLARS.finditer(text):
        yield match["label"], match["body"].strip()


def in_book(root: Path) -> list[Equation]:
    """Return the implemented equations in the order of the pages' names."""
    pages = sorted(path for kind in ("*.md", "*.ipynb") for path in (root / "book").glob(kind))
    return [
        Equation(label, page.relative_to(root).as_posix(), formula)
        for page in pages
        if page.relative_to(root) != PAGE
        for text in texts(page)
        for label, formula in equations_in(text)
    ]


def enclosing(tree: ast.Module, line: int) -> str:
    """Return the qualified name of the function or class around a line: what the API page can name.

    A function inside a function is not documented; its outer one is named.
    """
    names: list[str] = []
    body: list[ast.stmt] = tree.body
    while True:
        for node in body:
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            if (
                isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and first <= line <= node.end_lineno
            ):
                names.append(node.name)
                body = node.body if isinstance(node, ast.ClassDef) else []
                break
        else:
            return ".".join(names)


def in_package(root: Path) -> list[Line]:
    """Return the marked lines of lablib in the order in which the files stand."""
    found = []
    for path in sorted((root / "lablib").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree, lines = ast.parse(source), source.splitlines()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            mark = MARK.match(token.string) if token.type == tokenize.COMMENT else None
            if not mark:
                continue
            number = token.start[0]
            # A comment on a line of its own speaks of the next line that holds code.
            while not re.sub(r"#.*", "", lines[number - 1]).strip():
                number += 1
            file, code = path.relative_to(root).as_posix(), statement(tree, lines, number)
            found += [Line(label, file, number, enclosing(tree, number), code) for label in mark["label"].split(", ")]
    return found


def statement(tree: ast.Module, lines: list[str], number: int) -> str:
    """Return the source of the statement that a line belongs to; of an `if` or a `def` the line alone."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    inner = max((one for one in statements if one.lineno <= number <= one.end_lineno), key=lambda one: one.lineno)
    simple = not hasattr(inner, "body")
    first, last = (inner.lineno, inner.end_lineno) if simple else (number, number)
    kept = [re.sub(r"\s*#\s*eq:.*", "", line) for line in lines[first - 1 : last]]
    return textwrap.dedent("\n".join(line for line in kept if line.strip()))


def in_tests(root: Path) -> list[Check]:
    """Return the tests that are marked with an equation."""
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        file = path.relative_to(root).as_posix()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            name = getattr(node, "name", "every test of the file")
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.eq":
                    found += [Check(ast.literal_eval(label), file, name) for label in call.args]
    return found


def differences(book: list[Equation], package: list[Line], tests: list[Check]) -> list[str]:
    """Say what is missing where, one line for each fault; an empty list when the three sets are equal."""
    said = []
    where = {
        "in the book": {one.label: one.page for one in book},
        "in lablib": {one.label: f"{one.file}:{one.number}" for one in package},
        "in the tests": {one.label: f"{one.file}::{one.name}" for one in tests},
    }
    remedies = {
        "in the book": "no page gives an equation this label",
        "in lablib": "no line of lablib carries the comment `# eq: {label}`",
        "in the tests": 'no test is marked `@pytest.mark.eq("{label}")`',
    }
    for label in sorted({label for labels in where.values() for label in labels}):
        if not re.fullmatch(LABEL, label):
            places = [f"{labels[label]} ({kind})" for kind, labels in where.items() if label in labels]
            said.append(f"{label!r} is no label of an implemented equation (eq-...): {', '.join(places)}")
            continue
        present = ", ".join(f"{kind} ({labels[label]})" for kind, labels in where.items() if label in labels)
        for kind, labels in where.items():
            if label not in labels:
                said.append(f"{label} stands {present}, but {remedies[kind].format(label=label)}")
    pages = defaultdict(list)
    for one in book:
        pages[one.label].append(one.page)
    said += [f"{label} labels {len(at)} equations: {', '.join(at)}" for label, at in pages.items() if len(at) > 1]
    return said


def documented(root: Path) -> set[str]:
    """Return the functions and classes that the API page describes, e.g. `lablib.sets.Box`."""
    page, names = root / API, set()
    if not page.is_file():
        return names
    for directive in re.finditer(
        r"automodule:: (?P<module>\S+)\n(?P<options>(?: +:.*\n)*)", page.read_text(encoding="utf-8")
    ):
        module, listed = directive["module"], re.search(r":members: +(.+)", directive["options"])
        tree = ast.parse((root / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        exported = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        public = [node.name for node in tree.body if hasattr(node, "name") and not node.name.startswith("_")]
        chosen = re.split(r",\s*", listed[1].strip()) if listed else exported[0] if exported else public
        names |= {f"{module}.{name}" for name in chosen}
    return names


def reference(line: Line, known: set[str]) -> str:
    """Return a link to the function in the API reference, or to its class; its plain name where neither is there."""
    module = line.file.removesuffix(".py").replace("/", ".")
    first, _, method = line.function.partition(".")
    if f"{module}.{first}" not in known:
        return f"`{line.function}` of `{line.file}`" if line.function else f"`{line.file}`"
    if not method:
        return f"{{py:{'class' if first[0].isupper() else 'func'}}}`{module}.{first}`"
    if method.startswith("_"):
        return f"`{method}` of {{py:class}}`{module}.{first}`"
    return f"{{py:meth}}`{module}.{line.function}`"


def title(label: str) -> str:
    """Return a heading from a label.

    >>> title("eq-lmo-simplex")
    'LMO simplex'
    """
    words = label.removeprefix("eq-").replace("-", " ").replace("lmo", "LMO")
    return words[0].upper() + words[1:]


def page(book: list[Equation], package: list[Line], tests: list[Check], known: set[str]) -> str:
    """Return the appendix, in MyST Markdown."""
    out = [
        "---",
        "myst:",
        "  html_meta:",
        '    description: "Every implemented equation of the book, with the line of lablib that computes it and the'
        ' test that would find it wrong."',
        "---",
        "",
        "<!-- Made by `python -m lablib.teaching.equations` from the book, the package and the tests. Do not edit. -->",
        "",
        "# Where each equation lives",
        "",
        "Each equation below stands in a chapter, is computed by a line of `lablib`, and is checked by a test. The",
        "number leads to its derivation, the name to the function's reference. `make test` fails if one of the three",
        "is missing.",
        "",
    ]
    for one in book:
        lines = [line for line in package if line.label == one.label]
        checks = [test for test in tests if test.label == one.label]
        out += [f"({one.label.replace('eq-', 'where-', 1)})=", f"## {title(one.label)}", ""]
        out += [f"Equation {{eq}}`{one.label}`:", "", "```{math}", one.formula, "```", ""]
        for line in lines:
            out += [f"Computed in {reference(line, known)}:", "", "```python", line.source, "```", ""]
        out += ["Tested by", ""]
        out += [f"- `{test.name}` in `{test.file}`" for test in dict.fromkeys(checks)]
        out.append("")
    return "\n".join(out).rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the appendix, or check it; the exit code is 1 where the three sets differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the committed page is stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    options = parser.parse_args(arguments)
    book, package, tests = in_book(options.root), in_package(options.root), in_tests(options.root)
    faults = differences(book, package, tests)
    text, path = page(book, package, tests, documented(options.root)), options.root / PAGE
    if options.check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        faults.append(f"{PAGE.as_posix()} is stale: run `python -m lablib.teaching.equations`")
    if not options.check:
        path.write_text(text, encoding="utf-8")
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{len(book)} equations: each in the book, in lablib and in a test")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
