"""Numbers and names of Zernike and Legendre modes."""

import math
from typing import Final, Literal

from wavedask.errors import InputError

Index = Literal["noll", "osa", "fringe"]
Order = tuple[int, int]

INDICES: Final = ("noll", "osa", "fringe")
LEGENDRE: Final = "degree"
"""Numbering of Legendre modes: by total degree, then by falling degree in y, from 0."""

ZERNIKE_NAMES: Final[dict[Order, str]] = {
    (0, 0): "piston",
    (1, 1): "tilt x",
    (1, -1): "tilt y",
    (2, 0): "defocus",
    (2, 2): "astigmatism 0°",
    (2, -2): "astigmatism 45°",
    (3, 1): "coma x",
    (3, -1): "coma y",
    (3, 3): "trefoil x",
    (3, -3): "trefoil y",
    (4, 0): "spherical",
    (4, 2): "secondary astigmatism 0°",
    (4, -2): "secondary astigmatism 45°",
    (4, 4): "quadrafoil x",
    (4, -4): "quadrafoil y",
    (5, 1): "secondary coma x",
    (5, -1): "secondary coma y",
    (5, 3): "secondary trefoil x",
    (5, -3): "secondary trefoil y",
    (5, 5): "pentafoil x",
    (5, -5): "pentafoil y",
    (6, 0): "secondary spherical",
    (8, 0): "tertiary spherical",
}
LEGENDRE_NAMES: Final[dict[Order, str]] = {
    (0, 0): "piston",
    (1, 0): "tilt y",
    (0, 1): "tilt x",
    (2, 0): "curvature y",
    (1, 1): "twist",
    (0, 2): "curvature x",
}


def zernike_number(n: int, m: int, index: Index) -> int:
    """Give the number of a Zernike mode of radial order n and azimuthal frequency m.

    Parameters
    ----------
    n, m : int
        A negative m is the sine.
    index : {"noll", "osa", "fringe"}
        Noll (J. Opt. Soc. Am. 66, 207, 1976) from 1; OSA/ANSI Z80.28 from 0; Fringe or University
        of Arizona from 1.

    Returns
    -------
    int

    Raises
    ------
    InputError
        An unknown index.

    Examples
    --------
    >>> [zernike_number(4, 0, index) for index in ("noll", "osa", "fringe")]
    [11, 12, 9]
    >>> [zernike_number(3, 1, index) for index in ("noll", "osa", "fringe")]
    [8, 8, 7]
    """
    if index == "noll":
        # Within a radial order by |m|; even numbers are cosines.
        first = n * (n + 1) // 2 + abs(m)
        if m == 0:
            return first + 1
        return first + int((n % 4 < 2) == (m < 0))
    if index == "osa":
        return (n * (n + 2) + m) // 2
    if index == "fringe":
        half = (n + abs(m)) // 2
        return (1 + half) ** 2 - 2 * abs(m) + int(m < 0)
    raise InputError(f"index is {index!r}", f"Use one of {', '.join(map(repr, INDICES))}.")


def zernike_orders(order: int, index: Index) -> list[tuple[int, Order]]:
    """List the numbers and orders (n, m) of all Zernike modes up to a radial order, by number.

    Examples
    --------
    >>> zernike_orders(2, "noll")
    [(1, (0, 0)), (2, (1, 1)), (3, (1, -1)), (4, (2, 0)), (5, (2, -2)), (6, (2, 2))]
    """
    modes = [(n, m) for n in range(order + 1) for m in range(-n, n + 1, 2)]
    return sorted((zernike_number(*mode, index), mode) for mode in modes)


def zernike_name(n: int, m: int) -> str:
    """Name a Zernike mode.

    Examples
    --------
    >>> zernike_name(3, 1), zernike_name(7, -3)
    ('coma x', 'Z(7, -3)')
    """
    return ZERNIKE_NAMES.get((n, m), f"Z({n}, {m})")


def legendre_name(i: int, k: int) -> str:
    """Name a Legendre mode of degree i in y and k in x.

    Examples
    --------
    >>> legendre_name(1, 0), legendre_name(3, 1)
    ('tilt y', 'P3(y) P1(x)')
    """
    return LEGENDRE_NAMES.get((i, k), f"P{i}(y) P{k}(x)")


def rim_value(n: int, m: int) -> float:
    """Largest value of a Zernike mode whose rms is one; Fringe coefficients are multiples of it.

    Examples
    --------
    >>> round(rim_value(2, 0), 3)
    1.732
    """
    return math.sqrt((n + 1) * (1 if m == 0 else 2))
