"""Where jobs run: adapters of the port ``BatchBackend``."""
