"""What a result says, for people: numbers per frame, a summary, and a page for the logbook."""

from wavedask.report.files import check_replaceable, report_path
from wavedask.report.page import first_complete, write_picture, write_report
from wavedask.report.summary import matched_rows, numbers_of_frames, summary_rows, value_text

__all__ = [
    "check_replaceable",
    "first_complete",
    "matched_rows",
    "numbers_of_frames",
    "report_path",
    "summary_rows",
    "value_text",
    "write_picture",
    "write_report",
]
