"""The comparison of several models on one dataset, and the page that shows it.

``contenders`` opens what is compared and ``cost`` reads its graph; ``scoring`` and ``latency`` measure it.
``statistics`` says how sure numbers are; ``accuracy`` and ``classification`` hold the metrics. ``segmenters`` and
``classifiers`` put these together, each with a page of its own (``segmenter_page``, ``classifier_page``, and ``parts``
that both have) from ``charts``, ``pictures``, ``drawing`` and ``page``, the HTML. ``build`` makes the whole report of
either kind, ``write`` puts it on the disk.
"""
