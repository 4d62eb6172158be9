"""What a certified policy costs, and how often a promise is broken: python -m benchmarks.quality."""
