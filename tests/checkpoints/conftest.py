"""The networks that conversion's tests read, too."""

from tests.conversion.conftest import converted_file, resnet18, resnet50, torchvision_file

__all__ = ["converted_file", "resnet18", "resnet50", "torchvision_file"]
