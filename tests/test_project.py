"""The house itself: one address, no foreign hosts, no machine's paths, versions that agree, commands that exist."""

import doctest
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = "https://github.com/a-reader/constraints"
BINARY = {".png", ".gz", ".npz", ".pt", ".woff", ".woff2", ".ico", ".pdf"}


def load(path: str):
    """Load a program of the house by its file: these are no packages."""
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", path), ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def files() -> list[Path]:
    """Return every file that git tracks or would track."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def text_files() -> list[tuple[str, str]]:
    """Return name and text of every file that is text, but for the catalogues of faults, which hold what is wrong."""
    readable = [f for f in files() if f.suffix not in BINARY and f.parent != ROOT / "tests" / "faults"]
    return [(str(f.relative_to(ROOT)), f.read_text(encoding="utf-8")) for f in readable]


def requirements() -> dict[str, Requirement]:
    """Return the pins of requirements.txt by name."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line.strip() and not line.startswith(("#", "-"))]
    return {pin.name.lower().replace("_", "-"): pin for pin in parsed}


# ---- the address ----


@pytest.fixture
def clone(tmp_path):
    """A copy of the tree in which the address may be changed."""
    for file in files():
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    return tmp_path


def set_address(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the command in the copy, with the copy's own package."""
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "make/address.py", *arguments], cwd=root, env=env, capture_output=True, text=True
    )


def texts(root: Path) -> dict[str, str]:
    """Return the text of all that the address may change."""
    kept = ("_config.yml", "CITATION.cff", "README.md")
    return {name: (root / name).read_text() for name in kept} | {
        str(lab.relative_to(root)): lab.read_text() for lab in sorted(root.glob("labs/*.ipynb"))
    }


def test_every_place_agrees_on_the_address():
    assert load("make/address.py").disagreements(ROOT) == []


def test_the_address_can_be_set_and_taken_away_again(clone):
    if load("make/address.py").current(clone):
        assert set_address(clone, "none").returncode == 0
    before = texts(clone)
    done = set_address(clone, EXAMPLE + ".git")
    assert done.returncode == 0, done.stdout + done.stderr
    after = texts(clone)
    assert yaml.safe_load(after["_config.yml"])["repository"]["url"] == EXAMPLE
    assert yaml.safe_load(after["CITATION.cff"])["repository-code"] == EXAMPLE
    assert f"git clone {EXAMPLE} " in after["README.md"] and f'"git+{EXAMPLE}"' in after["README.md"]
    assert "https://a-reader.github.io/constraints/" in after["README.md"]
    labs = [name for name in after if name.startswith("labs/")]
    assert labs and all(f"git+{EXAMPLE}" in after[name] for name in labs)
    shown = set_address(clone)
    assert shown.returncode == 0 and EXAMPLE in shown.stdout, shown.stdout + shown.stderr
    assert set_address(clone, "none").returncode == 0
    assert texts(clone) == before


def test_a_place_that_disagrees_is_named(clone):
    citation = clone / "CITATION.cff"
    citation.write_text(citation.read_text() + "\n")  # only the line itself counts
    assert "CITATION" not in set_address(clone).stdout
    citation.write_text(
        re.sub(r"(?m)^.*repository-code.*$", 'repository-code: "https://github.com/x/y"', citation.read_text())
    )
    shown = set_address(clone)
    assert shown.returncode == 1 and "disagrees: CITATION.cff" in shown.stdout


@pytest.mark.parametrize(
    "wrong", ["github.com/a/b", "https://github.com/a", "https://example.org/a/b", "https://github.com/a/b/c"]
)
def test_what_is_no_address_is_refused_and_changes_nothing(clone, wrong):
    before = texts(clone)
    done = set_address(clone, wrong)
    assert done.returncode == 2 and wrong in done.stderr
    assert texts(clone) == before


@pytest.mark.parametrize(("repository", "shown"), [("", False), (EXAMPLE, True)])
def test_buttons_are_hidden_while_the_address_is_unset(repository, shown):
    extension = load("book/_ext/address.py")
    config = SimpleNamespace(html_theme_options={"repository_url": repository, "launch_buttons": {"colab_url": "x"}})
    extension.configure(None, config)
    assert bool(config.html_theme_options["launch_buttons"]) is shown
    assert config.html_theme_options["use_repository_button"] is shown


def test_the_launch_button_stands_on_labs_alone():
    extension = load("book/_ext/address.py")
    for page, kept in (("labs/projection-layers", 2), ("book/projection-layers", 1)):
        context = {"header_buttons": [{"label": "launch-buttons"}, {"label": "fullscreen-button"}]}
        extension.keep_on_labs(None, page, "page.html", context, None)
        assert len(context["header_buttons"]) == kept


def test_the_configuration_reads_the_address_from_one_place():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert set(config["repository"]) == {"url", "branch"}
    assert "repository_url" not in str(config["sphinx"])


# ---- local Sphinx extensions ----


def test_the_book_loads_only_what_it_names():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]
    assert config["recursive_update"] is True
    assert "sphinx_thebe" not in config["config"]["extensions"]
    assert "sphinx.ext.intersphinx" not in config["config"]["extensions"], "it would ask other hosts"
    assert all((ROOT / "book" / "_ext" / f"{name}.py").is_file() for name in config["local_extensions"])
    assert set(config["local_extensions"]) <= set(config["config"]["extensions"])
    assert config["config"]["html_copy_source"] is False, "the sources of the labs hold what a learner should find"
    assert config["config"]["nb_ipywidgets_js"] == {}, "the default loads scripts from another host"


@pytest.mark.parametrize("name", ["torch.Tensor", "numpy.ndarray", "scipy.sparse", "torch"])
def test_names_of_other_libraries_are_excused(name):
    assert excused("py:class", name)


@pytest.mark.parametrize("name", ["lablib.Simplex", "SolveInfo", "torchvision.ops", "matplotlib.axes.Axes", "mytorch"])
def test_no_other_name_is_excused(name):
    assert not excused("py:class", name)
    assert not excused("std:ref", "torch.Tensor")


def excused(kind: str, name: str) -> bool:
    """Say whether a missing reference would be let through."""
    rules = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]["nitpick_ignore_regex"]
    return any(re.fullmatch(k, kind) and re.fullmatch(n, name) for k, n in rules)


@pytest.mark.parametrize(
    ("repository", "prefix"),
    [("", "/"), (EXAMPLE, "/constraints/"), ("https://github.com/a-reader/a-reader.github.io", "/")],
)
def test_the_missing_page_knows_the_root(repository, prefix):
    assert load("book/_ext/not_found.py").prefix(repository) == prefix


def test_mathjax_is_where_the_extension_looks():
    folder = load("book/_ext/offline_mathjax.py").source_folder()
    assert all((folder / part).exists() for part in load("book/_ext/offline_mathjax.py").PARTS)


def test_a_description_is_the_first_plain_paragraph():
    from docutils.core import publish_doctree

    text = (
        "T\n=\n\nShort one.\n\n:math:`x` stands in this paragraph, which is otherwise long enough to serve.\n\n"
        + "word " * 60
    )
    found = load("book/_ext/description.py").first_paragraph(publish_doctree(text + "\n\nU\n=\n"))
    assert found.startswith("word word") and found.endswith("word…") and len(found) <= 200


# ---- nothing foreign ----


def test_no_script_or_style_comes_from_another_host():
    host = r"""(?:src|href)=\\?["']https?://[^"']+\.(?:js|css|woff2?)\b|@import\s+(?:url\()?["']?https?:|url\(["']?https?:"""
    own = ("tests/", ".github/")
    found = [name for name, text in text_files() if not name.startswith(own) and re.search(host, text)]
    assert found == []


def test_no_file_holds_a_path_of_someones_machine():
    homes = "|".join(["/" + "home/[a-z]", "/" + "Users/[A-Za-z]", "/" + "root/", "/" + "work/", r"[A-Z]:\\\\Users"])
    pattern = re.compile(rf"(?<![\w./-])(?:{homes})|{re.escape(str(ROOT))}/")
    found = {name: match[0] for name, text in text_files() if (match := pattern.search(text))}
    assert found == {}


def test_no_file_is_left_unfinished():
    pattern = re.compile("(?m)(?:#|<!--|//|%)\\s*(?:TO" + "DO|FIX" + "ME|XX" + "X)\\b")
    assert [name for name, text in text_files() if pattern.search(text)] == []


def test_no_file_is_larger_than_it_should_be():
    large = {str(file.relative_to(ROOT)): file.stat().st_size for file in files() if file.stat().st_size > 1_500_000}
    assert large == {}


# ---- versions ----


def test_every_pin_is_exact_and_portable():
    for pin in requirements().values():
        assert len(pin.specifier) == 1 and next(iter(pin.specifier)).operator == "==", str(pin)
        assert "+" not in str(pin.specifier), f"{pin}: a local version exists on one index only"


def test_the_pins_are_what_is_installed():
    different = {}
    for name, pin in requirements().items():
        here = importlib.metadata.version(name)
        if not pin.specifier.contains(here):
            different[name] = here
    assert different == {}, "run `make env`"


def test_the_packages_ranges_allow_the_pins_and_set_no_ceiling():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = requirements()
    ranges = [*project["dependencies"], *project["optional-dependencies"]["teaching"]]
    for line in map(Requirement, ranges):
        version = next(iter(pins[line.name].specifier)).version
        assert line.specifier.contains(version), f"{line} does not allow {version}, on which everything is tested"
        assert all(part.operator == ">=" for part in line.specifier), f"{line}: a ceiling would move Colab's packages"


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == project["version"] == importlib.metadata.version("lablib")


def test_the_citation_is_whole_and_names_an_entity():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license", "version"} <= set(citation)
    assert all(set(author) == {"name"} for author in citation["authors"])
    assert citation["license"] == ["BSD-3-Clause", "CC-BY-4.0"]


# ---- commands ----


def targets() -> set[str]:
    """Return the Makefile's targets."""
    return set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/test.yml", ".github/workflows/pages.yml"]
)
def test_every_make_target_that_is_named_exists(page):
    if not (ROOT / page).is_file():
        pytest.fail(f"{page} is missing")
    named = set(re.findall(r"(?m)(?:`|^|run: |exec )make ([a-z][a-z-]*)", (ROOT / page).read_text()))
    assert named <= targets(), f"{sorted(named - targets())} in {page}"


def test_every_file_that_the_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\]\(([^)#:]+)\)", text)) | set(
        re.findall(r"(?<![\w/.])((?:make|tests|book|labs|lablib)/[\w/.-]*)", text)
    )
    assert len(named) >= 8
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readmes_example_is_true():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    assert len(blocks) == 1
    test = doctest.DocTestParser().get_doctest(blocks[0], {}, "README.md", "README.md", 0)
    assert len(test.examples) <= 10
    assert doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test).failed == 0


def test_the_readmes_first_screen_has_the_two_commands():
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    assert re.search(r"(?m)^make book\b", first) and re.search(r"(?m)^make test\b", first)


def test_ci_calls_make_test_and_can_be_run():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, ".ci/run is not executable"
    assert re.search(r"(?m)^exec make test\b", script.read_text())


@pytest.mark.parametrize("name", ["test", "pages", "weekly"])
def test_workflows_are_whole(name):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    assert workflow["name"] == name
    named = re.findall(r"tests/[\w/.]+", (ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    assert [file for file in named if not (ROOT / file).exists()] == []
    assert workflow[True], "YAML reads the key `on` as true"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] and job["runs-on"] != "ubuntu-latest"
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert used and all(re.fullmatch(r"[a-z-]+/[a-z-]+@v\d+", action) for action in used), used


def test_the_toc_names_pages_that_exist_and_no_page_is_forgotten():
    toc = (ROOT / "_toc.yml").read_text()
    listed = set(re.findall(r"(?:root|file): (\S+)", toc))
    missing = [page for page in listed if not any((ROOT / f"{page}{kind}").is_file() for kind in (".md", ".ipynb"))]
    assert missing == []
    pages = {
        f"{f.parent.name}/{f.stem}"
        for f in files()
        if f.suffix in (".md", ".ipynb") and f.parent in (ROOT / "book", ROOT / "labs")
    }
    assert pages - listed - {"book/404"} == set()


def test_every_stage_has_its_own_folder_or_command():
    run = load("tests/run.py")
    assert list(run.STAGES) == ["lint", "unit", "notebooks", "generated", "book", "site", "labs", "faults"]
    assert all((ROOT / "tests" / name).is_dir() for name in run.OWN_STAGE)
