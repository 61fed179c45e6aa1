"""Learners: offline from datasets, online from their own play; which loss trains what."""
