"""From parameters and a table to a trained server: parts, the exchange, the loop."""
