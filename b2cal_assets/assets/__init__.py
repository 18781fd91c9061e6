"""The assets of a campaign, one notion per module; bodies read, call a rule or a port, and return metadata."""
