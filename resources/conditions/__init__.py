"""Conditions databases behind the port ``ConditionsDB``, and moving payloads in and out of them."""
