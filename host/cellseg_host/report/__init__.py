"""The comparison of several models on one dataset, and the page that shows it.

``contenders`` opens what is compared, ``cost`` reads its graph, ``scoring`` and ``latency`` measure it. ``accuracy``
gives each metric its interval by ``statistics``; the metrics are in ``segmentation`` and ``classification``.
``comparison`` holds what was measured and the numbers that follow, for the two kinds of models in ``segmenters`` and
``classifiers``. ``page`` renders it by ``templates/``, which ask for ``charts``, ``roc_charts`` and ``pictures``, drawn
in the style of ``drawing``. ``build`` makes the whole report, ``write`` writes it. ``plots`` draws training curves and
the gallery of ``cellseg-host evaluate``.
"""
