"""The port ``Caf`` and the production of cDST: adapters that run calibrations and reconstruction."""
