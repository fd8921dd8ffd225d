"""Choosing the backbone in a file and accounting for every other tensor."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clop_det.backbones.parts import NUMBERED, OWN, Root
from clop_det.backbones.registry import BACKBONES, converted_by_detectron2, families, find_architecture
from clop_det.conversion.contents import Contents
from clop_det.conversion.sources.by_hand import drop_by_hand, way_on
from clop_det.conversion.sources.catalogue import SOURCES, Source, source_names
from clop_det.conversion.sources.drops import (
    BEHIND,
    COUNTER,
    NUMBER,
    PROJECTOR,
    TWIN,
    drop_reason,
    is_counter,
    is_network,
    is_twin,
)
from clop_det.errors import UserError

_SAME = "the same tensors under another name"


@dataclass(frozen=True)
class Recognition:
    """What a file was found to be.

    Attributes:
        source: name of the catalogue's entry.
        reason: why, in words.
        family: the family of its network.
        prefix: the backbone's prefix in the file.
        state: the backbone's tensors under their own names.
        dropped: reason -> names in the file.
        warning: what the file cannot say; "" if nothing.
    """

    source: str
    reason: str
    family: str
    prefix: str
    state: dict[str, Tensor]
    dropped: dict[str, list[str]]
    warning: str


def find_roots(tensors: Mapping[str, Tensor], arch: str | None = None) -> list[Root]:
    """All networks of registered families in a file; with `arch` those of the family of that architecture."""
    wanted = families() if arch is None else [find_architecture(arch, "the architecture")[0]]
    roots = [root for family in wanted for root in family.roots(tensors)]
    claims: dict[str, list[Root]] = {}
    for root in roots:
        if root.form == OWN:
            claims.setdefault(root.prefix, []).append(root)
    lost = [root for several in claims.values() if len(several) > 1 for root in _others(several, tensors)]
    return [root for root in roots if root not in lost]


def _others(claims: list[Root], tensors: Mapping[str, Tensor]) -> list[Root]:
    """Of networks of several families under one prefix, all but the first whose tensors are all there, or the first."""
    for root in claims:
        family = BACKBONES[root.family]
        state = {own: tensors[name] for name, own in root.names.items() if not is_counter(own)}
        try:
            family.identify(state)
        except UserError:
            continue
        return [other for other in claims if other is not root]
    return claims[1:]


def recognise(
    contents: Contents,
    *,
    source: str | None = None,
    prefix: str | None = None,
    network: str | None = None,
    drop: Sequence[str] = (),
    arch: str | None = None,
) -> Recognition:
    """Recognise a checkpoint by content and account for every tensor in it.

    Args:
        contents: the file's tensors.
        source: take it for this catalogue entry instead.
        prefix: take the network under this prefix, where there are several.
        network: take the "teacher", the "student" or the "ema", where there are several.
        drop: patterns of names of tensors, or beginnings of names, that someone knows to be superfluous.
        arch: the architecture, where it is known; only networks of its family are looked for.

    Raises:
        UserError: no network of a known family, several that differ, `source`, `prefix`, `network` or a pattern of
            `drop` does not fit, or tensors that are neither backbone nor known to be superfluous (listed).
    """
    for family in families():
        contents = replace(contents, tensors=dict(family.prepared(contents.tensors)))
    roots = find_roots(contents.tensors, arch)
    if not roots:
        raise UserError(_no_network(contents))
    entry, root = _choose(contents, _wanted(roots, prefix, network), source)
    chosen = f"another network, passed over by {'--prefix' if prefix else '--network'}" if prefix or network else None
    state, dropped, unexplained = _account(contents, entry, root, roots, chosen)
    unexplained = drop_by_hand(unexplained, drop, dropped, state, root)
    if unexplained:
        shown = ", ".join(unexplained[:8]) + (f" and {len(unexplained) - 8} more" if len(unexplained) > 8 else "")
        raise UserError(
            f"{len(unexplained)} tensors are neither part of a known backbone nor known to be superfluous, so nothing"
            f" is converted: {shown}. The file was taken for {entry.name} ({entry.reason(BACKBONES[root.family])})."
            + way_on(unexplained, root)
        )
    why = entry.reason(BACKBONES[root.family])
    reason = f"{why}; prefix {root.shown}" if root.prefix else f"{why}; no prefix"
    if contents.wrappers:
        reason += f"; wrappers taken off: {', '.join(contents.wrappers)}"
    return Recognition(entry.name, reason, root.family, root.prefix, state, dropped, entry.warning)


def _wanted(roots: list[Root], prefix: str | None, network: str | None) -> list[Root]:
    found = ", ".join(f"{root.shown} ({root.layout})" for root in roots)
    if prefix is not None:
        roots = [root for root in roots if root.prefix.rstrip(".") == prefix.rstrip(".")]
        if not roots:
            raise UserError(f"--prefix {prefix!r} holds no {_nouns()}; the file has them under: {found}.")
    if network is not None:
        roots = [root for root in roots if is_network(network, root.prefix)]
        if not roots:
            raise UserError(f"--network {network}: no prefix says that; the file has networks under: {found}.")
    return roots


def _choose(contents: Contents, roots: list[Root], source: str | None) -> tuple[Source, Root]:
    candidates = [entry for entry in SOURCES if source is None or entry.name == source]
    if not candidates:
        near = difflib.get_close_matches(source or "", source_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"--source {source!r} is unknown; {hint}choose one of {', '.join(source_names())}.")
    found = ", ".join(f"{root.shown} ({root.layout})" for root in roots)
    for entry in candidates:
        if source is None and (not entry.by_content or not _has_marks(contents, entry)):
            continue
        fitting = [root for root in roots if entry.fits(root)]
        if len(fitting) > 1:
            fitting = [root for root in fitting if not is_twin(root.prefix)] or fitting
        if fitting and (len(fitting) == 1 or all(_equal(contents, fitting[0], other) for other in fitting[1:])):
            return entry, fitting[0]
        if fitting:
            shown = ", ".join(root.shown for root in fitting)
            raise UserError(
                f"the file holds several different networks ({shown}); name the wanted one with --prefix, or"
                " with --network teacher, student or ema."
            )
    raise UserError(
        f"the file does not look like {source or 'any known source'}; its networks are under: {found}."
        " Leave --source out to have it recognised."
    )


def _has_marks(contents: Contents, entry: Source) -> bool:
    names = [*contents.tensors, *contents.keys]
    return all(any(re.match(mark, name) for name in names) for mark in entry.marks)


def _equal(contents: Contents, one: Root, other: Root) -> bool:
    """Whether two roots hold the same tensors, bit for bit (an alias), not two networks."""
    first = {inner: name for name, inner in one.names.items()}
    second = {inner: name for name, inner in other.names.items()}
    return first.keys() == second.keys() and all(
        torch.equal(contents.tensors[first[inner]], contents.tensors[second[inner]]) for inner in first
    )


def _account(
    contents: Contents, entry: Source, root: Root, roots: list[Root], chosen: str | None
) -> tuple[dict[str, Tensor], dict[str, list[str]], list[str]]:
    family = BACKBONES[root.family]
    others = {name: other for other in roots if other is not root for name in other.names}
    # Looked up once a network, not once a tensor: comparing two networks reads all their tensors.
    of_network = {
        other.prefix: _reason_for_network(contents, root, other, chosen) for other in roots if other is not root
    }
    state: dict[str, Tensor] = {}
    dropped: dict[str, list[str]] = {}
    unexplained: list[str] = []
    for name, tensor in contents.tensors.items():
        inner = root.names.get(name)
        reason: str | None
        if inner is not None and family.is_own_name(inner):
            state[inner] = tensor
            continue
        if inner is not None:
            reason = COUNTER if is_counter(inner) else None
        elif name in others:
            reason = _extra_reason(entry, name) or of_network[others[name].prefix]
        else:
            reason = _reason(entry, root, name) or (NUMBER if tensor.dim() == 0 else None)
        if inner is None and reason is None:
            reason = _declared_head(contents, entry, name)
        if reason is None:
            unexplained.append(name)
        else:
            dropped.setdefault(reason, []).append(name)
    return state, dropped, unexplained


def _extra_reason(entry: Source, name: str) -> str | None:
    return next((reason for reason, pattern in entry.extra_drops if re.match(pattern, name)), None)


def _reason(entry: Source, root: Root, name: str) -> str | None:
    if entry.classifier_is_projector and name.startswith(f"{root.prefix}{BACKBONES[root.family].classifier}."):
        return PROJECTOR
    return _extra_reason(entry, name) or drop_reason(name) or (BEHIND if _is_behind(root, name) else None)


def _is_behind(root: Root, name: str) -> bool:
    """Whether a tensor belongs to a later child of an `nn.Sequential` than the network: fastai's heads."""
    box, _, index = root.prefix.rstrip(".").rpartition(".")
    if root.form == NUMBERED:
        inside = [int(there[len(root.prefix) :].split(".")[0]) for there in root.names]
        if _index_in(name, root.prefix) > max(inside):
            return True
    return index.isdigit() and _index_in(name, f"{box}." if box else "") > int(index)


def _index_in(name: str, prefix: str) -> int:
    index = name.removeprefix(prefix).split(".")[0]
    return int(index) if name.startswith(prefix) and index.isdecimal() else -1


def _declared_head(contents: Contents, entry: Source, name: str) -> str | None:
    """A pretraining run of this project says of itself which of its tensors are no part of the encoder."""
    heads = contents.provenance.get("heads")
    if entry.name != "clop_det" or not isinstance(heads, list) or not name.startswith("model."):
        return None
    return f"head of the method {contents.provenance.get('method')}" if name.split(".")[1] in heads else None


def _reason_for_network(contents: Contents, root: Root, other: Root, chosen: str | None) -> str | None:
    if is_twin(other.prefix):
        return TWIN
    if _equal(contents, root, other):
        return _SAME
    return chosen or drop_reason(f"{other.prefix}weight")


def _nouns() -> str:
    return " or ".join(dict.fromkeys(family.noun for family in families()))


def _no_network(contents: Contents) -> str:
    names = ", ".join(list(contents.tensors)[:4])
    message = f"the file holds {len(contents.tensors)} tensors but no {_nouns()} in a known spelling ({names}, ...)."
    others = converted_by_detectron2(contents.tensors)
    if others:
        return message + f" These are {others}'s names; Detectron2 reads such a file as it is, with MODEL.WEIGHTS."
    if any("patch_embed" in name or "pos_embed" in name for name in contents.tensors):
        return message + " It looks like a vision transformer."
    return message
