"""Loading of training samples: view selection, decoding, batches and the state to resume from."""
