"""The pure rules of the calibration platform: values and decisions, without files, network, clock or Dagster."""
