"""What the end-to-end tests, the benchmarks and the demo stand on. Standard library only."""
