"""The constants the reference detector starts from: design values of every payload, for every run."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import write_payload
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import IoV
from b2cal_detector import geometry

EVERYWHERE = IoV(0, 0, -1, -1)


def nominal_constants() -> Mapping[str, dict[str, np.ndarray]]:
    """Payload name to its design columns."""
    crystals = {"constant": np.ones(geometry.ECL_CRYSTALS)}
    return {
        "CDCTimeZeros": {"t0": np.zeros(geometry.CDC_WIRES)},
        "SVDTimeCalibrations": {
            "offset": np.full(geometry.SVD_SENSORS, geometry.SVD_NOMINAL_OFFSET),
            "slope": np.full(geometry.SVD_SENSORS, geometry.SVD_NOMINAL_SLOPE),
        },
        "TOPCalCommonT0": {"t0": np.zeros(1)},
        "CDCDedxRunGain": {"gain": np.ones(1)},
        "CDCDedxWireGain": {"gain": np.ones(geometry.CDC_WIRES)},
        "ECLCrystalEnergy": crystals,
        "ECLCrystalEnergyee5x5": crystals,
        "ECLCrystalEnergyGammaGamma": crystals,
        "BeamSpot": {
            **{axis: np.zeros(1) for axis in "xyz"},
            **{
                f"size_{axis}{axis}": np.array([size**2])
                for axis, size in zip("xyz", (16e-4, 10e-4, 0.03), strict=True)
            },
        },
        "CollisionBoostVector": {"x": np.array([0.0415]), "y": np.array([0.0]), "z": np.array([0.2730])},
        "CollisionInvariantMass": {"mass": np.array([10.58]), "spread": np.array([5.2e-3])},
    }


def write_nominal(directory: Path) -> LocalDatabase:
    """Write the design constants as a testing payload storage; what is there already is not added again."""
    database = LocalDatabase(directory)
    missing = {name: columns for name, columns in nominal_constants().items() if name not in database.names()}
    with tempfile.TemporaryDirectory() as scratch:
        made = []
        for name, columns in missing.items():
            file = Path(scratch) / f"{name}.root"
            write_payload(file, name, columns)
            made.append(LocalPayload(name, file, EVERYWHERE))
        if made:
            database.add_all(made)
    return database
