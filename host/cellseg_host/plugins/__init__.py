"""A user's own Python: ``FILE.py:NAME`` in place of the name of an architecture, a loss, a metric or a search.

::

    def build(heads, *, filters=32):     # --arch: a keras.Model (tf_keras), input (None, None, None, 3) in [0, 1],
        ...                              #   for each head an output (batch, h, w, block²), logits or a sigmoid's
    STRIDE, MARGIN = 16, 64              #   optional, as in `architectures.Architecture`; so are HEADS and PAPER

    def custom_loss(y_true, y_pred):     # --loss: tensors (batch, height, width, 1) in [0, 1], as in Keras;
        ...                              #   returns a tensor: one value, or one for each image or pixel

    def score(y_true, y_pred):           # --metric: labels of an image, uint16 (height, width), 0 = background;
        ...                              #   returns a number, higher is better

    def search(trial):                   # of a sweep (`sweep.plan`): an optuna.Trial;
        ...                              #   returns a dict of settings

The file must not import other files of yours, since a run keeps a copy of it alone. Each function is tried on small
data before any training; whatever is wrong is an `InputError` that names file and function.

`loading` imports the file, `networks` tries an architecture, `functions` a loss or a metric.
"""
