"""Package metadata of clop_det; versions that were really run together are pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

# What Detectron2's Python code imports; its PyPI copy is installed without its own dependencies (see the Makefile).
DETECTRON2_NEEDS = [
    "black",
    "cloudpickle",
    "fvcore>=0.1.5",
    "hydra-core>=1.1",
    "iopath>=0.1.9",
    "matplotlib>=3.8",
    "omegaconf>=2.1",
    "opencv-python-headless>=4.8",
    "pillow>=10",
    "pycocotools>=2.0.7",
    "setuptools<82",  # detectron2.model_zoo imports pkg_resources
    "tabulate",
    "tensorboard>=2.15",
    "termcolor",
    "tqdm",
    "yacs>=0.1.8",
]

setup(
    name="clop_det",
    version="0.2.0",
    description="Contrastive pretraining for Detectron2: conversion with proof, fine-tuning, paired comparison",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the clop_det authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["detectron2", "object detection", "self-supervised learning", "contrastive learning", "pretraining"],
    project_urls={"Paper (CLOP)": "https://arxiv.org/abs/2512.07880"},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=[*find_packages(include=["clop_det", "clop_det.*"]), "clop_det.configs", "clop_det.reference"],
    package_dir={"clop_det.configs": "configs", "clop_det.reference": "docs/reference"},
    entry_points={"console_scripts": ["clop-det = clop_det.commands.main:run"]},
    package_data={
        "clop_det": ["py.typed"],
        "clop_det.comparison.report": ["templates/*"],
        "clop_det.ranking": ["calibration.csv"],
        "clop_det.configs": ["*/*.yaml", "*/*/*.yaml"],
        "clop_det.reference": ["*.md"],
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "msgspec>=0.18",  # parses annotation files
        "numpy>=1.26",
        "pyyaml>=6",
        "safetensors>=0.4",
        "scikit-learn>=1.4",  # the embedded handwritten digits
        "scipy>=1.11",
        "timm>=1.0.31,<1.1",  # networks beside torchvision's residual ones
        *DETECTRON2_NEEDS,
    ],
    extras_require={
        "report": ["jinja2>=3.1"],
        "slurm": ["submitit>=1.5"],
        "wandb": ["wandb>=0.17"],
        "fast-eval": ["faster-coco-eval>=1.6", "hotcoco"],
        "turbo": ["simplejpeg>=1.9"],
        "docs": ["latex2mathml>=3.77", "mkdocs-material>=9.5", "mkdocs>=1.6", "mkdocstrings[python]>=0.26"],
        "bench": [
            *("lightly>=1.5", "pytorch-metric-learning>=2.5", "kornia>=0.7", "simplejpeg>=1.9", "transformers>=5"),
        ],
        "test": [
            "hypothesis>=6",
            "ipykernel>=6",  # runs docs/tutorial.ipynb
            "lightly>=1.5",
            "mypy>=1.10",
            "nbclient>=0.10",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "pytorch-metric-learning>=2.5",
            "ruff>=0.6",
            "types-PyYAML",
            "types-tabulate",
        ],
    },
)
