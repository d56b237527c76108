"""Where tests keep dense networks: those of the same rows and seed are trained once.

Most tests are about what comes after the dense phase. That a remembered network is the same one,
to the last bit, is tested in test_memory.py.
"""

from tempfile import TemporaryDirectory

_FOLDER = TemporaryDirectory()
MEMORY = _FOLDER.name
