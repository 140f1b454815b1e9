"""The processes of a training: what each computes, and how they are started and ended."""
