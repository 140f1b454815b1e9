"""Contact sheets, galleries of a generator and pictures for web pages."""
