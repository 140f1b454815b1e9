"""A family of defects that nothing is fitted or chosen on: kinds other than the procedural generator's own.

A plug-in generator: `--set generator.name=tests.benchmarks.held_out:make`. Its clean heads are those of the
procedural generator; `generator` describes the options, `NOTICEABLE` the strengths that a person notices.
"""

from tests.benchmarks.held_out.generator import KINDS, NOTICEABLE, STRENGTHS, HeldOutGenerator, HeldOutOptions, make

__all__ = ["KINDS", "NOTICEABLE", "STRENGTHS", "HeldOutGenerator", "HeldOutOptions", "make"]
