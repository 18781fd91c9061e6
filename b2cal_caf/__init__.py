"""The embedded Calibration and Alignment Framework: collectors, algorithms, checkpoints and the runner."""
