"""Recognising where a checkpoint comes from, by its content."""

from clop_det.conversion.sources.catalogue import SOURCES, Source
from clop_det.conversion.sources.recognise import Recognition, find_roots, is_meant, recognise

__all__ = ["SOURCES", "Recognition", "Source", "find_roots", "is_meant", "recognise"]
