import pytest

from apps.sites import power


def test_the_reference_vectors_of_carbon():
    """sites.md C1 and C2."""
    assert power.gco2e(0.072658, 400) == pytest.approx(0.029063, rel=1e-5)
    assert power.gco2e_per_kwh(820) == pytest.approx(371.945743, rel=1e-5)
