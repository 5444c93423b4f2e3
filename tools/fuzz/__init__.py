"""Thousands of damaged and malicious inputs for the engine, each found again by its number."""
