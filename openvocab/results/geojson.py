"""Results as GeoJSON (RFC 7946) in pixels of the image, x to the right and y downwards, not in degrees on the Earth."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from openvocab.results.outlines import Polygon, Ring


def geojson_features(regions: Iterable[tuple[Polygon, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return a feature collection of (polygon, properties)."""
    features = [
        {
            "type": "Feature",
            "properties": dict(properties),
            "geometry": {"type": "Polygon", "coordinates": [_closed(ring) for ring in polygon]},
        }
        for polygon, properties in regions
    ]
    return {"type": "FeatureCollection", "features": features}


def _closed(ring: Ring) -> list[list[float]]:
    """Return the corners of a ring, the first one again at the end."""
    return np.concatenate([ring, ring[:1]]).tolist()
