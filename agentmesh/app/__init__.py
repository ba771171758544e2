"""The command line and the screen: what people see of a run, and what they type."""
