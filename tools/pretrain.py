#!/usr/bin/env python3
"""Pretrain a ResNet with a (semi-supervised) contrastive loss; `--help` lists the arguments."""

from clop_det.commands.common import run_tool
from clop_det.commands.pretrain import main

if __name__ == "__main__":
    run_tool(main)
