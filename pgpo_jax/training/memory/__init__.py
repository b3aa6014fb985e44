"""The memory that a run needs: an estimate, and a search for settings that fit."""
