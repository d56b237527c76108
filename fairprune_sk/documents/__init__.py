"""Documents: what is said, as a value, and its renderings for browsers, notebooks and machines.

Here belongs how something is shown; nothing here knows a network, a rate or a fairness notion.
What is shown is put together once, from the blocks of :mod:`~fairprune_sk.documents.blocks`, and
every rendering reads the same blocks.
"""
