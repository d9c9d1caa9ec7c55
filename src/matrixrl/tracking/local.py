"""Earlier name of `matrixrl.tracking.journal_reader`; programs that import it keep working."""

import sys

from matrixrl.tracking import journal_reader
from matrixrl.tracking.journal_reader import *  # noqa: F403

sys.modules[__name__] = journal_reader
