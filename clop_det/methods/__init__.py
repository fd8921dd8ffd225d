"""Pretraining methods: encoder, heads and loss in one module."""
