"""What a conversion can be told, from the registries; as the page docs/reference/conversion.md.

python -m clop_det.conversion.reference > docs/reference/conversion.md
"""

from __future__ import annotations

from clop_det.backbones.registry import architecture_names, families
from clop_det.config.build import register_built_in
from clop_det.config.imports import import_announced
from clop_det.conversion.export import namings
from clop_det.conversion.sources.catalogue import source_names
from clop_det.conversion.sources.drops import NETWORKS
from clop_det.conversion.stock import STOCK

SOURCE, ARCHITECTURE, NAMING, NETWORK = "source", "architecture", "naming", "network"
_HEAD = """\
# What a conversion can be told

This page is generated from the registries, by `python -m clop_det.conversion.reference > docs/reference/conversion.md`.
`clop-det convert --help` lists the options; `--source`, `--arch`, `--to` and `--network` take the names below.

| what | name |
|---|---|
"""
_CONVENTIONS = """
Conventions of the source that some families of networks add:

| option | of the provenance | meaning |
|---|---|---|
"""


def names() -> list[tuple[str, str]]:
    """(what, name) of everything that is registered; `what` is `SOURCE`, `ARCHITECTURE`, `NAMING` or `NETWORK`."""
    register_built_in()
    import_announced()
    return [
        *((SOURCE, name) for name in source_names()),
        *((ARCHITECTURE, name) for name in architecture_names()),
        *((NAMING, name) for name in (STOCK, *namings())),
        *((NETWORK, name) for name in NETWORKS),
    ]


def conventions() -> list[tuple[str, str, str]]:
    """(option, field of the provenance, help) of the switches that families add, off where the source does not say."""
    own = {item.field: item.help for family in families() for item in family.conventions if item.help}
    return [(f"--{field.replace('_', '-')}", field, help_text) for field, help_text in own.items()]


def page() -> str:
    """The page docs/reference/conversion.md."""
    rows = [f"| `{what}` | `{name}` |" for what, name in names()]
    switches = [f"| `{option}` | `{field}` | {help_text} |" for option, field, help_text in conventions()]
    return _HEAD + "\n".join(rows) + "\n" + _CONVENTIONS + "\n".join(switches) + "\n"


if __name__ == "__main__":
    print(page(), end="")
