r"""How a name that is written into a file stays on its line.

A backslash is written `\\`, a tab `\t`, a line feed `\n` and a carriage return `\r`.
"""

ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
"""For `str.translate`."""
