"""The JSON Schema of study files, which includes the settings of every registry entry."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ipgl.config import StudyConfig, TrainingSettings
from ipgl.data import DATASETS
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.tracking import TRACKERS

_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_RANGE_KINDS = {name: _NUMBERS for name in ("uniform", "log_uniform", "int", "log_int")} | {
    "choice": {"type": "array", "minItems": 1}
}


def study_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of study files."""
    schema = StudyConfig.model_json_schema()
    definitions = schema["$defs"]
    definitions["SearchRange"] = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": _RANGE_KINDS,
    }
    entries = {name: entry.settings for name, entry in DATASETS.items()}
    schema["properties"]["dataset"] = _components(entries, definitions)
    schema["properties"]["model"] = _components({name: e.settings for name, e in MODELS.items()}, definitions)
    schema["properties"]["methods"] = _methods(definitions)
    definitions["SearchSettings"]["properties"]["selection"]["enum"] = sorted(SELECTION_RULES)
    definitions["TrackingSettings"]["properties"]["name"]["enum"] = sorted(TRACKERS)
    schema["title"] = "IPGL study"
    return schema


def _components(entries: Mapping[str, type[BaseModel]], definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema with one alternative per registry entry, distinguished by `name`."""
    alternatives = []
    for name, settings in entries.items():
        own = _inlined(settings, definitions)
        own["properties"] = {"name": {"const": name}, **own.get("properties", {})}
        own["required"] = ["name", *own.get("required", [])]
        alternatives.append(own)
    return {"anyOf": alternatives}


def _methods(definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of `methods`: for each label its method's settings, or search ranges, and overrides of sections."""

    def searchable(*classes: type[BaseModel]) -> dict[str, Any]:
        return {"anyOf": [_searchable(_inlined(settings, definitions), definitions) for settings in classes]}

    overrides = {
        "training": searchable(TrainingSettings),
        "dataset": searchable(*(entry.settings for entry in DATASETS.values())),
        "model": searchable(*dict.fromkeys(entry.settings for entry in MODELS.values())),
        "start": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Known good points, tried first.",
        },
    }
    definitions.update({f"{name}_override": schema for name, schema in overrides.items()})
    shared = {name: {"$ref": f"#/$defs/{name}_override"} for name in overrides}
    by_method = {}
    for name, entry in METHODS.items():
        own = _searchable(_inlined(entry.settings, definitions), definitions)
        own["properties"] = {"method": {"const": name}, **own.get("properties", {}), **shared}
        by_method[name] = own
    named = {name: {**own, "title": name} for name, own in by_method.items()}
    others = [{**own, "required": ["method"]} for own in by_method.values()]
    return {
        "type": "object",
        "minProperties": 1,
        "properties": {name: {"anyOf": [own, *others]} for name, own in named.items()},
        "additionalProperties": {"anyOf": others},
    }


def _inlined(settings: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    own = settings.model_json_schema()
    definitions.update(own.pop("$defs", {}))
    return own


def _searchable(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, which allows a search range in place of every value, also in nested mappings."""
    schema = copy.deepcopy(schema)
    for name, value in schema.get("properties", {}).items():
        nested = definitions.get(value.get("$ref", "").rpartition("/")[2], {})
        schema["properties"][name] = (
            _searchable(nested, definitions)
            if "properties" in nested
            else {"anyOf": [value, {"$ref": "#/$defs/SearchRange"}]}
        )
    return schema
