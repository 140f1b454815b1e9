"""Strategies for fuzzing readers: path traversal, oversized numbers, arbitrary JSON."""

from hypothesis import strategies as st

NAMES = st.one_of(st.text(max_size=20), st.sampled_from(["/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "x" * 5000]))
NUMBERS = st.one_of(st.integers(), st.sampled_from([2**63, 10**400, -1]), st.floats())
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)
