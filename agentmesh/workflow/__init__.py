"""Workflows: YAML files that describe agents and tasks, checked as a whole before anything is called."""
