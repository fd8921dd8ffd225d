"""The page docs/reference/config.md, made from the declarations; `config.described` reads it for `--help`.

python -m clop_det.config.reference > docs/reference/config.md
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from clop_det.config.build import register_built_in
from clop_det.config.described import STAGES
from clop_det.keys import Declared, constraints, declared

_HEAD = """\
# Config keys

This page is generated from the declarations in the code, by
`python -m clop_det.config.reference > docs/reference/config.md`.

Pretraining and detection read one config: Detectron2's keys, which keep their meaning
([reference](https://detectron2.readthedocs.io/en/latest/modules/config.html)), and the keys below. A comparison
(`clop-det compare`) has keys of its own. Write a key into a YAML file, nested or dotted, or behind the options on the
command line as KEY VALUE. A value there is YAML, as `True`, `1e-4`, `[1, 2]` or `"[{NAME: a, LAYOUT: voc}]"`;
Detectron2's Python notation, as `"(1, 2)"`, is read too. A key whose default is a string keeps the text as it stands.
`clop-det pretrain --help` lists the keys of pretraining; `clop-det train --help` and `clop-det compare --help` list
theirs, and `clop-det config keys PATTERN` finds keys by name.
"""


def reference() -> str:
    """The page docs/reference/config.md."""
    _declare_all()
    own = {name: item for name, item in declared().items() if item.module.startswith("clop_det.")}
    parts = [_HEAD]
    for group, keys in _grouped({name: item for name, item in own.items() if item.owner is None}).items():
        parts += [f"## {group}", _table(keys)]
    kinds = dict.fromkeys(item.owner[0] for item in own.values() if item.owner)
    for kind in kinds:
        parts.append(f"## Options of each {kind}")
        parts.append(f"An option counts only where its {kind} is in use.")
        parts.append(_table({name: item for name, item in own.items() if item.owner and item.owner[0] == kind}))
    parts += ["## Detectron2's keys with a rule here", _rules_table()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _declare_all() -> None:
    register_built_in()
    importlib.import_module("clop_det.comparison.planning.config")


def _grouped(keys: Mapping[str, Declared]) -> dict[str, dict[str, Declared]]:
    """By the first part of the name, keys without a group under their own name."""
    groups: dict[str, dict[str, Declared]] = {}
    for name, item in keys.items():
        groups.setdefault(name.split(".")[0], {})[name] = item
    return groups


def _table(keys: Mapping[str, Declared]) -> str:
    rows = ["| key | default | stage | meaning |", "|---|---|---|---|"]
    for name, item in keys.items():
        stages = ", ".join(STAGES[stage] for stage in item.stages)
        rows.append(f"| `{name}` | `{_default(item)}` | {stages} | {_cell(_meaning(item))} |")
    return "\n".join(rows)


def _rules_table() -> str:
    rows = ["| key | stage | rule |", "|---|---|---|"]
    for item in constraints():
        stages = ", ".join(STAGES[stage] for stage in item.stages)
        rows.append(f"| `{item.name}` | {stages} | It must {_cell(item.rule.text)}. |")
    return "\n".join(rows)


def _default(item: Declared) -> str:
    default = item.key.default
    return repr(default) if not isinstance(default, str) else f'"{default}"'


def _meaning(item: Declared) -> str:
    """The help, and the rule as a sentence of its own."""
    text = item.key.help if item.key.help.endswith(".") else f"{item.key.help}."
    return text if item.key.rule is None else f"{text} It must {item.key.rule.text}."


def _cell(text: str) -> str:
    """Text for a Markdown table; what stands in <...> or between bars would be taken for something else."""
    return " ".join(_escaped(text.split()))


def _escaped(words: list[str]) -> Iterator[str]:
    for word in words:
        yield word.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    print(reference(), end="")
