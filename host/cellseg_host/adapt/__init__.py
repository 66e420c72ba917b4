"""Adapting a model to a user's images: from corrected labels to a model that is proven better on images held out.

`corrected` checks the corrections, `folds` says which of them are held out when, `replay` makes the images that keep
what the start model knows, `material` is all of these as one dataset, `fit` trains and quantizes a model, `verdict`
judges old against new, `adapt` does all this in turn, resumable, and `page` shows it.
"""
