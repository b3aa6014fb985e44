"""Rollouts: policy, question stream, buckets, batches and evaluation."""
