"""The collectors of the reference detector's prompt calibrations, one module per detector part."""
