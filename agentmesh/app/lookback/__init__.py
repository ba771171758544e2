"""The commands that look back at runs, and tidy them away: `runs`, `show`, `export`, `rm` and `gc`."""
