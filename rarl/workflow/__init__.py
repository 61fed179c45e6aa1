"""What Snakemake, DVC and the command line ask: plans, digests, records, and whether files are what they say."""
