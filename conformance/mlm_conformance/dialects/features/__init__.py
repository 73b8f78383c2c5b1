"""What can be observed of a masker: features, their values, and what each value predicts."""

from __future__ import annotations

from collections.abc import Mapping

from mlm_conformance.dialects.features import counts, groups, kinds, specials
from mlm_conformance.dialects.features.feature import Feature

__all__ = ["FEATURES"]

#: In the order in which they are told.
FEATURES: Mapping[str, Feature] = {
    feature.name: feature
    for module in (counts, specials, kinds, groups)
    for feature in module.FEATURES
}
