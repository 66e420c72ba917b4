"""Would a model run on a Coral Edge TPU? A static check by the compiler's published rules, and the compiler's own word.

- `graph`: the operators and tensors of a .tflite;
- `rules`: what the compiler takes, from its documentation and from public reports;
- `check`: the verdict: what maps, what falls back to the CPU, why, and what to change;
- `untrained`: the same for an architecture before it is trained;
- `fix`: nearest-neighbour resizes rewritten so that older compilers take them;
- `compiler`: ``edgetpu_compiler`` itself, where there is one.
"""
