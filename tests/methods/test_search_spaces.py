"""What every method recommends to a search can be set."""

from __future__ import annotations

from typing import get_args

import pytest

from ipgl.methods import METHODS
from ipgl.methods.ipg.discrepancy import DISCREPANCIES
from ipgl.methods.ipg.update import UPDATES

RECOMMENDED = [(name, key) for name, entry in METHODS.items() for key in entry.search_space]


def test_methods_with_settings_of_their_own_recommend_a_space() -> None:
    without = {name for name, entry in METHODS.items() if not entry.search_space}
    assert without == {name for name, entry in METHODS.items() if not entry.settings.model_fields}
    assert without == {"erm", "class_balanced", "group_balanced"}


@pytest.mark.parametrize(("name", "key"), RECOMMENDED)
def test_a_recommended_range_is_one_of_existing_values(name: str, key: str) -> None:
    entry = METHODS[name]
    assert key in entry.settings.model_fields
    for value in entry.search_space[key].probes:
        assert getattr(entry.settings.model_validate({key: value}), key) == value


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("which", [0, 1, -1])
def test_recommended_values_go_together(name: str, which: int) -> None:
    entry = METHODS[name]
    chosen = {key: space.probes[which] for key, space in entry.search_space.items()}
    settings = entry.settings.model_validate(chosen)
    assert {key: getattr(settings, key) for key in chosen} == chosen


@pytest.mark.parametrize(("name", "key"), RECOMMENDED)
def test_a_recommended_range_leaves_a_choice(name: str, key: str) -> None:
    probes = METHODS[name].search_space[key].probes
    assert len(set(probes)) > 1


def test_choices_of_ipg_are_registered() -> None:
    fields = METHODS["ipg"].settings.model_fields
    assert set(get_args(fields["update"].annotation)) == set(UPDATES)
    assert set(get_args(fields["discrepancy"].annotation)) == set(DISCREPANCIES)
