"""Quiet libraries, for processes whose output is for others to read."""

import os
import sys


def silence_libraries() -> None:
    """No bars of libraries in this process: what is to be seen goes through the parent's, or as lines to a log."""
    os.environ["TQDM_DISABLE"] = "1"  # read once, when tqdm is first imported
    for library in ("diffusers", "transformers"):  # the parent's main module, imported here too, may have used them
        logging = sys.modules.get(f"{library}.utils.logging")
        if logging is not None:
            logging.disable_progress_bar()
