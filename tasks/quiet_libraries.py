"""Turns off progress bars of libraries in worker processes."""

import os
import sys


def silence_libraries() -> None:
    """Disable the progress bars of tqdm, diffusers and transformers: only the parent process shows progress."""
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is first imported
    for library in ("diffusers", "transformers"):  # may be imported already, by the main module
        logging = sys.modules.get(f"{library}.utils.logging")
        if logging is not None:
            logging.disable_progress_bar()
