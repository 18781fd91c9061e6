"""Where tickets are kept."""
