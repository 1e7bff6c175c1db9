"""Classical motion without weights: OpenCV's dense inverse search flow as a ``contract.FlowSource``."""

from .flow import DISFlow

__all__ = ["DISFlow"]
