"""Whether a model runs on a Coral Edge TPU: a static check by the compiler's published rules, and the compiler itself.

- `graph`: the operators and tensors of a .tflite;
- `rules`: what the compiler supports, from its documentation and from public reports;
- `check`: the verdict: what maps, what falls back to the CPU, why, and what to change;
- `untrained`: the same for an architecture before it is trained;
- `fix`: rewrites nearest-neighbour resizes so that older compilers support them;
- `compiler`: runs ``edgetpu_compiler``, where it is installed.
"""
