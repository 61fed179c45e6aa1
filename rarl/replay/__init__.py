"""Replay: what online agents keep of what they played, and how it is drawn."""
