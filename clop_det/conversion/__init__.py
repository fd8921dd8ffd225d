"""Checkpoints of any source to Detectron2 and back: recognise, map, prove, export."""
