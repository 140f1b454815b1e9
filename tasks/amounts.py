"""Amounts with units, as commands and artifacts show them."""

_UNITS = ("B", "kB", "MB", "GB", "TB")


def amount(size: float) -> str:
    """A number of bytes as `1.5 GB` (decimal)."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 99.5 else f"{size:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """Seconds as `0.4 s`, `12 min`, `3.5 h` or `10.0 days`."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} days"
