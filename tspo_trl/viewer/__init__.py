"""Shows trajectory files as one HTML file, as a local page and in the console."""

from ..analysis.options import ViewOptions
from .page import write_report
from .report import make_report

__all__ = ["ViewOptions", "make_report", "write_report"]
