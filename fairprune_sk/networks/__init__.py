"""Networks: what goes into them, what comes out, and those that this package brings.

Here belongs what a network computes, whatever it is trained for: rows as tensors
(:class:`~fairprune_sk.networks.batch.Batch`), calling a module, encoding a table, and the default
network, transformer and convolutional networks. Nothing here knows groups, masks or training.
"""

from fairprune_sk.networks.default import TabularNetwork
from fairprune_sk.networks.encoding import TableEncoder
from fairprune_sk.networks.transformer import TabularTransformer
from fairprune_sk.networks.vision import MobileNetV2, ResNet, ResNet10, ResNet18

__all__ = [
    "MobileNetV2",
    "ResNet",
    "ResNet10",
    "ResNet18",
    "TableEncoder",
    "TabularNetwork",
    "TabularTransformer",
]
