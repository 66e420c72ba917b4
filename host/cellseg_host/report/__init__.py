"""The comparison of several models on one dataset, and the page that shows it.

``contenders`` opens what is compared, ``scoring`` and ``latency`` measure it, ``statistics`` says how sure the numbers
are, ``accuracy`` is the table of metrics; ``charts`` and ``pictures`` draw, ``page`` holds the HTML, ``segmenters`` and
``classifiers`` say what is on it, ``write`` puts it on the disk.
"""
