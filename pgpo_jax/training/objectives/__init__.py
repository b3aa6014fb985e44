"""What a batch of responses teaches: one file per objective."""
