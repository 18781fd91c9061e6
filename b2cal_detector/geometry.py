"""What never changes in the reference detector: channels, where they are, and the design resolutions.

Lengths are in cm, times in ns, momenta in GeV/c. A track is a parabola in the transverse plane: at radius ``r`` it lies
``u = a + b r + c r**2`` to the side of a seed direction, with ``a`` the impact parameter, ``b`` the angle to the seed
and ``2 c`` the signed curvature.
"""

import numpy as np

CDC_WIRES_PER_LAYER = np.repeat([160, 160, 192, 224, 256, 288, 320, 352, 384], [8, 6, 6, 6, 6, 6, 6, 6, 6])
CDC_LAYERS = CDC_WIRES_PER_LAYER.size
CDC_WIRES = int(CDC_WIRES_PER_LAYER.sum())
CDC_FIRST_WIRE = np.concatenate([[0], np.cumsum(CDC_WIRES_PER_LAYER)[:-1]])
CDC_RADII = np.linspace(16.8, 111.1, CDC_LAYERS)
CDC_WIRES_PER_BOARD = 64
DRIFT_VELOCITY = 0.004
CDC_TIME_RESOLUTION = 2.5
"""Of one hit; 100 µm."""

SVD_SENSORS_PER_LAYER = np.array([14, 30, 48, 80])
SVD_LAYERS = SVD_SENSORS_PER_LAYER.size
SVD_SENSORS = int(SVD_SENSORS_PER_LAYER.sum())
SVD_FIRST_SENSOR = np.concatenate([[0], np.cumsum(SVD_SENSORS_PER_LAYER)[:-1]])
SVD_TIME_RESOLUTION = 1.2
"""Of one cluster, in units of its raw time."""
SVD_NOMINAL_OFFSET = 70.0
SVD_NOMINAL_SLOPE = 1.25
"""Raw time over true time."""
SVD_TIME_WINDOW = 6.0
"""A cluster further than this from the event time is not attached to its track."""
SVD_POSITION_RESOLUTION = 20e-4
SVD_Z_RESOLUTION = 50e-4

TOP_TIME_RESOLUTION = 0.1
ECL_CRYSTALS = 8736
ECL_RESOLUTION_BHABHA = 0.05
ECL_RESOLUTION_GAMMA = 0.06
DEDX_RESOLUTION = 0.35
"""Relative spread of the charge of one hit; the distribution is a gamma distribution."""
COT_THETA_RESOLUTION = 1e-3
"""Of the polar angle, in radian."""

CURVATURE_TIMES_MOMENTUM = 0.0045
"""Curvature (1/cm) times transverse momentum (GeV/c) in the field of 1.5 T."""
MUON_MASS = 0.10566
EVENT_TIME_SPREAD = 8.0

_BASIS = np.stack([np.ones(CDC_LAYERS), CDC_RADII, CDC_RADII**2], axis=1)
_HIT_RESOLUTION = DRIFT_VELOCITY * CDC_TIME_RESOLUTION
TRACK_BASIS = _BASIS
"""Shape (layers, 3): the side distance in each layer for unit (a, b, c)."""
TRACK_FIT = np.linalg.pinv(_BASIS)
"""Shape (3, layers): the least-squares (a, b, c) of side distances."""
TRACK_COVARIANCE = np.linalg.inv(_BASIS.T @ _BASIS) * _HIT_RESOLUTION**2
"""Of (a, b, c), when every wire's time offset is known."""
FREEDOM = 1 - np.einsum("ij,ji->i", _BASIS, TRACK_FIT)
"""Share of the variance of a hit in each layer that the fit of a parabola leaves in its residual."""


def residuals(values: np.ndarray) -> np.ndarray:
    """What no parabola can follow of side distances; shape (tracks, layers)."""
    left: np.ndarray = values - (values @ TRACK_FIT.T) @ TRACK_BASIS.T
    return left


def wire_angles(wires: np.ndarray) -> np.ndarray:
    """Azimuth of CDC wires; shape (tracks, layers), one wire of each layer per track."""
    number = wires.astype(np.float64) - CDC_FIRST_WIRE
    angles: np.ndarray = (number + 0.5 * (np.arange(CDC_LAYERS) % 2)) * (2 * np.pi / CDC_WIRES_PER_LAYER)
    return angles


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The angle brought to the half-open interval from -pi to pi."""
    turned: np.ndarray = (angle + np.pi) % (2 * np.pi) - np.pi
    return turned
