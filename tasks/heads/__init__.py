"""The stages that make one head. `registry` lists them in order."""
