"""Questions become responses: policy, question stream, buckets, batches and evaluation."""
