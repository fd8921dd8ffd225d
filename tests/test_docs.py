"""Pages: links, navigation, command lines and config keys in README.md, docs/ and examples/ are those of the code."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg

from clop_det.commands.main import COMMANDS, main
from clop_det.config.build import register_built_in
from clop_det.config.library import find_config
from clop_det.keys import declared

ROOT = Path(__file__).resolve().parents[1]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
PAGES = [
    *TOP,
    *(str(path.relative_to(ROOT)) for part in ("docs", "examples") for path in sorted((ROOT / part).rglob("*.md"))),
]
TOOLS = {"compare": "compare", "convert_checkpoint": "convert", "doctor": "doctor", "pretrain": "pretrain"}
TOOLS |= {"simulate_collapse": "simulate", "train_net": "train"}
# Keys that a reader's own module declares, in the examples of the pages.
OWN_KEYS = {"LOSS.SPREAD.WEIGHT", "MODEL.TINY.WIDTH", "CLASSIFICATION.LAYOUTS"}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{page}: {link}"


def test_every_page_is_in_the_navigation_once() -> None:
    config = yaml.safe_load(text_of("mkdocs.yml"))
    parts = {title: entries for part in config["nav"] for title, entries in part.items()}
    assert set(parts) == {"Start", "Guides", "Reference", "Explanation", "Results"}
    listed = [entry for entries in parts.values() for entry in ([entries] if isinstance(entries, str) else entries)]
    named = [next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in listed]
    assert sorted(named) == sorted([*PAGES, "docs/tutorial.md"])


def test_the_python_reference_names_what_there_is() -> None:
    pages = sorted((ROOT / "docs" / "reference" / "python").glob("*.md"))
    named = [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]
    assert {"clop_det.api", "clop_det.losses", "clop_det.methods", "clop_det.backbones", "clop_det.figures"} <= {*named}
    for name in named:
        module, _, thing = name.rpartition(".")
        if not importlib.util.find_spec(module) or not hasattr(importlib.import_module(module), thing):
            assert importlib.util.find_spec(name), name


@cache
def help_of(command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return said.getvalue()


def command_lines(page: str) -> list[list[str]]:
    """The words of each line that runs something of ours: within a text, in a block without a language, of a shell."""
    found = [shlex.split(line) for line in re.findall(r"`(clop-det [a-z][^`]*)`", text_of(page))]
    for block in re.findall(r"^```(?:bash|console)?\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^\$ |^(\w+=\S+ )+", "", line.strip())
            if re.match(r"(clop-det|python|torchrun|make) ", line):
                found.append(shlex.split(line, comments=True))
    return found


def check_command(words: list[str], folder: Path) -> None:
    """Command, options and configs exist."""
    (name, *rest) = words
    command = f"{name} {rest[0]}" if name in ("compare", "config") and rest and rest[0] in ("report", "list") else name
    assert name in COMMANDS, words
    for option in (word for word in rest if word.startswith("--")):
        assert option in help_of(command), words
    if "--config-file" in rest:
        config = rest[rest.index("--config-file") + 1]
        if config not in ("...", "CONFIG") and not (folder / config).is_file() and not (ROOT / config).is_file():
            assert find_config(config), words


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_pages_exist(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for yaml_text in re.findall(r"^```yaml\n# (\S+)\n", text_of(page), re.MULTILINE):
        (tmp_path / yaml_text).touch()  # files that the page has its reader write
    monkeypatch.chdir(ROOT)
    for words in command_lines(page):
        script = next(
            (word for word in words if word.endswith(".py") and word.startswith(("tools/", "benchmarks/"))), ""
        )
        rest = words[words.index(script) + 1 :] if script else words[1:]
        if words[0] == "clop-det":
            check_command(rest, tmp_path)
        elif script.startswith("tools/"):
            check_command([TOOLS[Path(script).stem], *rest], tmp_path)
        elif script:
            code = text_of(script)
            assert all(word in code for word in rest if word.startswith("--")), words
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", text_of("Makefile"), re.MULTILINE), words
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), words


@pytest.mark.parametrize("page", PAGES)
def test_python_of_the_pages_compiles_and_imports_what_there_is(page: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("clop_det", "tests"):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}"), page


def test_config_keys_of_the_pages_exist() -> None:
    register_built_in()
    import clop_det.comparison.planning.config  # noqa: F401  (declares the keys of a comparison)

    def names(node: dict[str, object], prefix: str = "") -> list[str]:
        inner = [
            name for key, value in node.items() if isinstance(value, dict) for name in names(value, f"{prefix}{key}.")
        ]
        return [*(prefix + key for key in node), *inner]

    known = {*declared(), *names(get_cfg()), *OWN_KEYS}
    known |= {name.rsplit(".", depth)[0] for name in known for depth in range(1, name.count(".") + 1)}
    for page in PAGES:
        for key in re.findall(r"`([A-Z][A-Z0-9_]+(?:\.[A-Z0-9_]+)+)[` ]", text_of(page)):
            assert key in known, f"{page}: {key}"


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_with_foreign_data_says_where_they_come_from(config: Path) -> None:
    """The comment stands in the config that names the data, or in one that it is based on or uses."""
    text = config.read_text(encoding="utf-8")
    if not re.search(r'ROOT: "(\.\.|datasets)/|"(voc|coco)_20', text):
        return
    named = [text]
    while base := re.search(r'^_BASE_: "?([^"\s]+)', named[-1], re.MULTILINE):
        config = config.parent / base[1]
        named.append(config.read_text(encoding="utf-8"))
    assert any(re.search(r"^# Data: .*(\n# .*)*https?://|^# Data: .*https?://", part, re.MULTILINE) for part in named)
