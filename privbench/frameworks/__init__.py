"""What a federation's framework loads, so that its clients keep what they send."""
