"""How numbers are shown: quantiles of µs as ms, headings above tables."""

import statistics


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def ms(us):
    return f"{us / 1000:.2f}"


def spread(values):
    """p50, p95, max as text."""
    return [ms(statistics.median(values)), ms(quantile(values, 0.95)), ms(max(values))]


def heading(text):
    print(f"\n{text}\n")
