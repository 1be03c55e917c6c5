"""The name of a channel tells how it is normalised."""

from __future__ import annotations

from nnlite.planning.normalization import normalization_scheme


def test_normalization_is_chosen_by_name_whatever_its_case() -> None:
    schemes = {"ct": "ct", " CT ": "ct", "noNorm": "none", "rescale_to_0_1": "rescale_to_0_1", "RGB red": "rgb_to_0_1"}
    assert {name: normalization_scheme(name) for name in schemes} == schemes
    assert normalization_scheme("CTA") == normalization_scheme("R") == "zscore"
