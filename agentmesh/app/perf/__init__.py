"""The command group `perf`: agentmesh measures itself."""
