"""One script per claim; `python -m benchmarks` puts what they print into the README."""
