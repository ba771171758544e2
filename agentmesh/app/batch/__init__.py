"""The command `batch`: its lines, its answers on disk, the earlier run that it goes on with, and the run itself."""
