"""Everything that decides a run: sections, the whole configuration, presets and checks."""
