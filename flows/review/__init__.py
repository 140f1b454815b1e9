"""The review of screened heads: the page with its server, and the pause of a build."""
