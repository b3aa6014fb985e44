"""The run folder, checkpoints, trackers and callbacks."""
