"""Settings of the invariance pairs of image data sets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ipgl.config import Settings
from ipgl.data.generate.places import LAND, WATER

# Keys that only one source reads.
_OWN_KEYS = {
    "manifest": ("file",),
    "composite": ("birds", "places", "land_places", "water_places"),
    "matched": ("columns", "max_difference", "features"),
    "recolour": ("hue",),
    "function": ("function",),
    "none": (),
}


class ImagePairSettings(Settings):
    """Settings of `pairs` of an image data set."""

    source: Literal["none", "manifest", "composite", "matched", "recolour", "function"] = Field(
        "none",
        description="manifest: a CSV names them; composite: one bird on two places, by its mask; matched: training "
        "images that agree but for the attribute; recolour: turned hue; function: your own Python function.",
    )
    train: int | None = Field(
        None, ge=0, description="Pairs that training may use; null is all but the held-out ones."
    )
    held_out: int = Field(200, ge=1, description="Pairs that only measure invariance; from other images.")
    seed: int = Field(0, ge=0, description="Which pairs, which side of the split, which backgrounds.")
    file: str = Field("pairs.csv", description="manifest: columns image_a, image_b[, label]; below the root.")
    birds: str = Field(
        "CUB_200_2011", description="composite: CUB-200-2011 with masks; absolute or below $IPGL_DATA."
    )
    places: str = Field("places365", description="composite: Places' folder; absolute or below $IPGL_DATA.")
    land_places: tuple[str, ...] = Field(LAND, min_length=1, description="composite: attribute 0.")
    water_places: tuple[str, ...] = Field(WATER, min_length=1, description="composite: attribute 1.")
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="matched: columns of numbers to agree in; null is all with two values.",
    )
    max_difference: float | None = Field(
        None,
        ge=0,
        description="matched: most binary columns in which members may differ; null is any number.",
    )
    features: str | None = Field(
        None,
        description="matched: .npy with one feature vector per training image (`ipgl data features` writes it); "
        "members then agree in these, not in columns; below the root.",
    )
    hue: float = Field(
        0.5, gt=0, le=0.5, description="recolour: largest turn either way; 0.5 is half the circle."
    )
    function: str | None = Field(
        None, pattern=r"^[\w.]+:\w+$", description="function: `package.module:function` on the Python path."
    )

    @model_validator(mode="after")
    def _keys_belong_to_the_source(self) -> ImagePairSettings:
        if self.features is not None and (self.columns or self.max_difference is not None):
            raise ValueError("features replaces columns and max_difference; leave those out")
        if self.source == "function" and self.function is None:
            raise ValueError("source: function needs the key function: `package.module:function`")
        for source, keys in _OWN_KEYS.items():
            for key in keys:
                if source != self.source and getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} belongs to source: {source}, but got source: {self.source}")
        return self
