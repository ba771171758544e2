"""The task graph: records of tasks, the state machine that decides over them, the runner that acts on it."""
