"""What is planned at a scale, and what of it is there already."""
