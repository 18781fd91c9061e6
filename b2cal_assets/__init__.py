"""What Dagster sees: partitions, assets, checks and jobs built from campaigns and catalogues."""
