"""The ensemble: what it probes, whom it sends, how it judges."""
