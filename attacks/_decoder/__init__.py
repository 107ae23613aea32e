"""The features that a head's gradient gives away, and invented pictures to decode them by."""
