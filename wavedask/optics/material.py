"""Refractive index of a material."""

from wavedask.errors import InputError
from wavedask.units import in_range


def refractive_decrement(material: str, *, energy: float, density: float | None = None) -> float:
    """Look up the refractive index decrement delta of a material: n = 1 - delta.

    Parameters
    ----------
    material : str
        Chemical formula or name ("Be", "Al", "kapton").
    energy : float
        Photon energy in keV.
    density : float, optional
        Density in g/cm3; by default that of xraydb.

    Returns
    -------
    float
        delta, dimensionless: xraydb's tables of Elam and Chantler.

    Raises
    ------
    InputError
        An unknown material or density, or a value outside its range.

    Examples
    --------
    >>> print(f"{refractive_decrement('Be', energy=17.0):.2e}")
    1.18e-06
    """
    import xraydb  # takes half a second, needed only with a material

    electronvolts = 1e3 * in_range("energy", energy, low=0.01, high=1000.0, unit="keV")
    formula, known_density = _composition(material)
    density = known_density if density is None else density
    if density is None:
        raise InputError(
            f"the density of {material!r} is unknown", "Give density in g/cm3, or give delta."
        )
    in_range("density", density, low=1e-5, high=30.0, unit="g/cm3")
    return float(xraydb.xray_delta_beta(formula, density, electronvolts)[0])


def _composition(material: str) -> tuple[str, float | None]:
    """Look up the formula of a material, and its density in g/cm3 where xraydb knows it."""
    import xraydb

    known = xraydb.find_material(material)
    if known is not None:
        return known.formula, known.density
    remedy = "Give a chemical formula such as 'Be' or 'SiO2', or a name that xraydb knows."
    try:
        elements = xraydb.chemparse(material)
    except ValueError as error:
        raise InputError(f"material is {material!r}", remedy) from error
    if not elements:
        raise InputError(f"material is {material!r}", remedy)
    if len(elements) == 1:
        return material, float(xraydb.atomic_density(next(iter(elements))))
    return material, None
