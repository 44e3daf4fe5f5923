"""`Settings`, the base of every settings class: immutable, and an unknown key is an error."""

import typing

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """Settings that check themselves; unknown keys are refused and values cannot change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_booleans_for_numbers(cls, value: object, info: ValidationInfo) -> object:
        # Pydantic would read `epochs: true` as one epoch.
        if isinstance(value, bool):
            annotation = cls.model_fields[str(info.field_name)].annotation
            kinds = {annotation, *typing.get_args(annotation)}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("input should be a number")
        return value
