"""Sources of invariance pairs for image data sets."""

from ipgl.data.pair_sources.composite import background_blend
from ipgl.data.pair_sources.make import PAIR_SOURCES, make_pairs
from ipgl.data.pair_sources.settings import ImagePairSettings

__all__ = ["PAIR_SOURCES", "ImagePairSettings", "background_blend", "make_pairs"]
