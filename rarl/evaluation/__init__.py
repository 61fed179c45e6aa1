"""Roll-outs, and measurements of what retrieval does."""
