"""Pretraining of residual networks with semi-supervised contrastive losses, on Detectron2's engine."""
