"""One suite per file: a product of attacks, victims and defenses."""
