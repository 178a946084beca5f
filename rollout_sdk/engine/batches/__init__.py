"""Batches: rows decided one by one, models called once for each variant."""
