"""Planning benchmarks on published tasks: data sets, prompts, scoring, and tables of the scores."""
