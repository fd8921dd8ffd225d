#!/usr/bin/env python3
"""Pretrain a ResNet with a (semi-supervised) contrastive loss; `--help` lists the arguments."""

from clop_det.engine.cli import run_tool
from clop_det.pretraining.cli import main

if __name__ == "__main__":
    run_tool(main)
