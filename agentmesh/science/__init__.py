"""Work on science itself: planning benchmarks so far."""
