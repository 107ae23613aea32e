"""Tokens found one by one, and taken out of the update as they are found."""
