"""The errors: each names the thing, the value, what is allowed, and the remedy."""


class WavedaskError(Exception):
    """Root of every error that wavedask raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong: the file or argument by name, and the offending value.
    remedy : str, default ""
        What would be right, and what to do.

    Examples
    --------
    >>> print(WavedaskError("window is 20", "Give an odd number of pixels."))
    window is 20. Give an odd number of pixels.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        # Both go to Exception.args, so that the error survives pickling from a Dask worker.
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        if not self.remedy:
            return self.problem
        return f"{self.problem.rstrip('.')}. {self.remedy}"


class InputError(WavedaskError, ValueError):
    """An argument that cannot be used: wrong value, shape, type or combination."""


class FileError(WavedaskError):
    """A file that is missing, unreadable, or not what its name says."""


class CorruptFileError(FileError):
    """A file whose header and contents disagree: truncated, padded or damaged."""


class FrameMismatchError(InputError):
    """Frames of one scan that differ in shape or data type."""


class MotorError(InputError):
    """Motor positions that are missing, of the wrong number, or not numbers."""


class ExperimentError(InputError):
    """An experiment file that cannot be understood."""


class StoreError(WavedaskError):
    """A result store that cannot be opened or written."""


class StoreExistsError(StoreError):
    """A result store that stands where another was to be written."""


class ClusterError(WavedaskError):
    """A Dask cluster that was lost while it was used: its scheduler, or all of its workers."""
