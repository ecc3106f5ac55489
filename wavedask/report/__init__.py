"""What a result says, for people: numbers per frame, a summary, and a page for the logbook."""

from wavedask.report.page import report_path, write_report
from wavedask.report.summary import matched_rows, numbers_of_frames, summary_rows

__all__ = ["matched_rows", "numbers_of_frames", "report_path", "summary_rows", "write_report"]
