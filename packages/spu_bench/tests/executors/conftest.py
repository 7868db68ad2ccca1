"""The Docker image of this source."""

from __future__ import annotations

from typing import Any

import pytest
from images import image_of_this_source


@pytest.fixture(scope="session")
def image(engine: Any) -> str:
    """The reference image of this source."""
    return image_of_this_source(engine, "0.9.5")
