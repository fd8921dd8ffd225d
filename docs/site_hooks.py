"""What `make docs` does beside MkDocs: the site mirrors the checkout, formulas become MathML, the notebook a page.

Links between README.md, docs/ and examples/ are the same in the checkout and in the site, so nothing is rewritten.
"""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

SHOWN = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "benchmarks/README.md", "examples/**/*.md")
PICTURES = ("png", "jpeg", "gif")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every file under its path in the checkout, so that README.md is the first page."""
    root = Path(config.config_file_path).parent
    kept = Files([file for file in files if file.src_dir != config.docs_dir])  # those of the theme
    for path in sorted({path for pattern in (*SHOWN, "docs/**/*") for path in root.glob(pattern)}):
        name = path.relative_to(root).as_posix()
        if path.suffix == ".ipynb":
            notebook = json.loads(path.read_text(encoding="utf-8"))
            kept.append(File.generated(config, name.replace(".ipynb", ".md"), content=notebook_page(notebook)))
        elif path.is_file() and path.suffix not in (".py", ".pyc"):
            kept.append(File.generated(config, name, abs_src_path=str(path)))
    return kept


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to the notebook lead to its page; the page of the losses also lists those that are built by name alone."""
    markdown = markdown.replace("tutorial.ipynb)", "tutorial.md)")
    if page.file.src_uri != "docs/reference/python/losses.md":
        return markdown
    folder = Path(config.config_file_path).parent / "clop_det" / "losses"
    exported = (folder / "__init__.py").read_text(encoding="utf-8")
    modules = [path.stem for path in sorted(folder.glob("[a-z]*.py")) if "register_loss(" in path.read_text("utf-8")]
    inner = [name for name in modules if f"clop_det.losses.{name} import" not in exported]
    entries = [f"::: clop_det.losses.{name}\n    options: {{heading_level: 3}}" for name in inner]
    return "\n\n".join([markdown, "## Built by name", *entries])


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, which browsers show without a script."""
    return FORMULA.sub(mathml, html)


def mathml(found: re.Match[str]) -> str:
    """The formula of a `span` (in a line) or a `div` (by itself)."""
    inline = found[1] == "span"
    return convert(unescape(found[2]).replace(r"\boxed", ""), display="inline" if inline else "block")


def notebook_page(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: texts, cells and what they gave."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [shown for output in cell.get("outputs", []) if (shown := output_text(output))]
    return "\n\n".join(parts) + "\n"


def output_text(output: dict[str, Any]) -> str:
    """One output of a cell: a picture, or its text."""
    data = output.get("data", {})
    for kind in PICTURES:
        if picture := data.get(f"image/{kind}"):
            address = f"data:image/{kind};base64,{''.join(picture).strip()}"
            return f'<img alt="what the cell shows" src="{address}">'
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
