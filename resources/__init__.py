"""Adapters behind the ports of ``b2cal_core.ports``; each a plain class beside a thin Dagster shell."""
