from __future__ import annotations

import pytest
from pydantic import ValidationError

from ipgl.data.pair_sources import PAIR_SOURCES, ImagePairSettings


def test_every_source_but_none_has_a_maker() -> None:
    choices = ImagePairSettings.model_json_schema()["properties"]["source"]["enum"]
    assert set(choices) == {"none", *PAIR_SOURCES}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"source": "composite", "file": "x.csv"},
            "file belongs to source: manifest, but got source: composite",
        ),
        ({"source": "manifest", "hue": 0.2}, "hue belongs to source: recolour, but got source: manifest"),
        ({"birds": "x"}, "birds belongs to source: composite, but got source: none"),
        ({"source": "function"}, "source: function needs the key function"),
        ({"source": "function", "function": "no_colon"}, "String should match pattern"),
        ({"source": "recolour", "hue": 0.6}, "less than or equal to 0.5"),
        ({"source": "matched", "columns": ()}, "at least 1 item"),
        ({"source": "magic"}, "Input should be 'none', 'manifest'"),
        ({"held_out": 0}, "greater than or equal to 1"),
    ],
)
def test_bad_settings_say_what_is_wrong(
    values: dict[str, str | float | tuple[object, ...]], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ImagePairSettings.model_validate(values)


def test_complete_settings_validate_again() -> None:
    settings = ImagePairSettings(source="manifest", file="x.csv", train=3)
    assert ImagePairSettings.model_validate(settings.model_dump(mode="json")) == settings
