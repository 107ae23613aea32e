"""What a defense costs: accuracy, bytes and seconds, by one protocol of federated SGD."""
