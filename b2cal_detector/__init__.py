"""The reference detector: simulated data with known truth, and the prompt calibrations and validations made for it."""
