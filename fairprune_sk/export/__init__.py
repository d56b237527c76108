"""Export: fitted networks as files and in other forms.

Here belongs what leaves Python or comes back from a file: archives without code, ONNX and
``torch.export``, and faster forms of a sparse network. All of it reads a
:class:`~fairprune_sk.fitting.fitted.Fitted`, or a plain module.
"""

from fairprune_sk.export.inference import fastest_form, semi_structured

__all__ = ["fastest_form", "semi_structured"]
