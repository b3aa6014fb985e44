"""The mesh of devices, and runs of several processes."""
