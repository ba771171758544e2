"""Agents: names with a model, instructions, tools and an output type, and the loop of turns that answers a prompt."""
