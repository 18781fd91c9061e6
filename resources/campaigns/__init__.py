"""Stores of campaigns, catalogues and buckets."""
