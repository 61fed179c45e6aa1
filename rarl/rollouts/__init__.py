"""Roll-outs: episodes of a trained agent."""
