"""Networks: encoders, summarisers, the retrieval process (Algorithm 1), bottleneck, fusion, heads."""
