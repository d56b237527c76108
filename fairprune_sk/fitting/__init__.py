"""Fitting: from what a user passes to a fitted network, as a chain of values.

Here belongs the way that ``FairPruner.fit`` goes: what was given, checked (``Given``), encoded
with its network (``Task``), on the device (``ResidentTable``), trained (``Dense``), pruned
(``Run``), and what comes out (``Fitted``); and skorch's loop, which only this room knows. Nothing
here knows the estimator: it passes its parameters and takes its attributes from a ``Fitted``.
"""
