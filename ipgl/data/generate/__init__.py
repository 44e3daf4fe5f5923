"""Waterbirds from its sources, and drawn stand-ins for the sources."""

from ipgl.data.generate.drawn import draw_sources
from ipgl.data.generate.plan import WaterbirdsPlan
from ipgl.data.generate.waterbirds import Generated, folder_name, generate_waterbirds

__all__ = ["Generated", "WaterbirdsPlan", "draw_sources", "folder_name", "generate_waterbirds"]
