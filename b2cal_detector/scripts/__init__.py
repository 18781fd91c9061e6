"""The prompt calibration scripts (``caf_*.py``) and their validations (``val_*.py``)."""
