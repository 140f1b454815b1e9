"""Run as a module in place of a training: a process that is killed."""

import os
import signal
import sys

if __name__ == "__main__":
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
