"""What a run leaves behind: folder, checkpoints, trackers and callbacks."""
