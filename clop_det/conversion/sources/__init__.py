"""Recognising where a checkpoint comes from, by its content."""

from clop_det.conversion.sources.by_hand import is_meant
from clop_det.conversion.sources.catalogue import SOURCES, Source
from clop_det.conversion.sources.recognise import Recognition, find_roots, recognise

__all__ = ["SOURCES", "Recognition", "Source", "find_roots", "is_meant", "recognise"]
