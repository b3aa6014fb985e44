"""The `pgpo` command line."""
