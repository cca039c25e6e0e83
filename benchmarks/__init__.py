"""One script per claim. `python -m benchmarks` runs them and puts what they print into the README."""
