"""Findings of a dry run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Report:
    """
    Findings of a dry run.

    Args:
        sections (`dict[str, list[str]]`, *optional*):
            Lines of each section, in the order in which they are printed.
        warnings (`list[str]`, *optional*):
            Findings that may not matter on the machine that will train.
        problems (`list[str]`, *optional*):
            Findings that prevent the run from starting or ending.
    """

    sections: dict[str, list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, section: str, *lines: str) -> None:
        """Add lines to a section."""
        self.sections.setdefault(section, []).extend(lines)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Record an exception as a problem of this section, so that the checks after it still run."""
        try:
            yield
        except Exception as error:
            self.add(name, "see the problems below")
            self.problems.append(f"{name}: {str(error) or type(error).__name__}")

    @property
    def exit_code(self) -> int:
        """0 if the run can start, 1 if not."""
        return 1 if self.problems else 0

    def __str__(self) -> str:
        parts = [f"{name}\n" + "".join(f"  {line}\n" for line in lines) for name, lines in self.sections.items()]
        for name, found in (("Warnings", self.warnings), ("Problems", self.problems)):
            if found:
                parts.append(f"{name}\n" + "".join(f"  {i}. {line}\n" for i, line in enumerate(found, start=1)))
        return "\n".join([*parts, "Cannot run." if self.problems else "Ready to run. No model was loaded."])
