"""What the phase `adapt` trains on: single pictures of faces, each with its own identity embedding."""
