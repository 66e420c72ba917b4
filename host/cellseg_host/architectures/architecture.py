"""What is known of a network before it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_host.architectures.networks import stride_of

# Heads of classifiers of whole images: is there a cell, and what kind of sample is it
CLASSIFIERS = (("presence",), ("kind",))


@dataclass(frozen=True)
class Architecture:
    """How a network is built and run.

    Attributes
    ----------
    name : str
    build : callable
        ``build(heads, **options)`` returns an untrained network: one input, (None, None, None, 3) in [0, 1]; for
        each of `heads` one output, (None, h, w, block²) of logits (or of probabilities, after a sigmoid), named after
        it. Options are keyword-only and have defaults. A deeply supervised network has several outputs for each
        head, group by group; the last group is the one to use. Layers that belong to neither encoder nor heads
        have names that begin with ``decoder``.
    stride : int
        The largest: sides of the input are multiples of it.
    margin : int
        Pixels along the edge of a tile that are not used, a multiple of `stride`; at least the radius of the receptive
        field, so that results do not depend on the tiling.
    paper : str
        Where it comes from.
    heads : tuple of str
        Maps that it learns by default; of a classifier of images one of `CLASSIFIERS`.
    options : mapping
        Of `build`, where they differ from its defaults.
    """

    name: str
    build: Callable[..., keras.Model]
    stride: int
    margin: int
    paper: str
    heads: tuple[str, ...] = ("foreground",)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_classifier(self) -> bool:
        """Whether it classifies whole images."""
        return self.heads in CLASSIFIERS

    def network(self, heads: Sequence[str] = (), **options: Any) -> keras.Model:
        """Return an untrained network; options that are not given are the architecture's own.

        Raises
        ------
        InputError
            If an option is unknown or its value does not work.
        """
        known = option_defaults(self.build)
        for key in options:
            if key not in known:
                raise InputError(f"--option: {self.name} has {unknown('option', key, list(known))}")
        given = {key: self._checked(key, value, known[key]) for key, value in options.items()}
        chosen = ", ".join(f"{k}={v}" for k, v in options.items()) or "its defaults"
        try:
            network = self.build(tuple(heads or self.heads), **{**self.options, **given})
        except (ValueError, TypeError) as error:
            raise InputError(
                f"--arch {self.name} cannot be built with {chosen}: {str(error).splitlines()[0]}"
            ) from None
        if options and isinstance(network, keras.Model) and self.stride % (stride := stride_of(network)):
            raise InputError(
                f"--arch {self.name} with {chosen}: needs images whose sides are multiples of {stride}, but they are "
                f"multiples of {self.stride}: use fewer levels"
            )
        return network

    def _checked(self, key: str, value: Any, default: Any) -> Any:
        """Return the value as the kind that the default is: a flag, a number, a text, or a tuple (or one of it)."""
        if isinstance(default, tuple) and default:
            values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            fits = bool(values) and all(_is_like(v, default[0]) for v in values)
            value = values
        else:
            fits = _is_like(value, default)
        if not fits:
            raise InputError(f"--option {key}: {value!r} does not fit; {self.name}'s is {default!r} by default")
        return value


def option_defaults(build: Callable[..., keras.Model]) -> dict[str, Any]:
    """Return the options of a `build` function, with their defaults."""
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def takes_encoder_weights(arch: Architecture, options: Mapping[str, Any]) -> bool:
    """Return whether a network with these options has an encoder that can start from pretrained weights."""
    chosen = {**option_defaults(arch.build), **arch.options, **options}
    return "encoder_weights" in chosen and chosen.get("encoder", "its own") is not None


def wants_encoder_weights(arch: Architecture, options: Mapping[str, Any]) -> bool:
    """Return whether it could start from pretrained weights and has none: worth a warning before training."""
    return takes_encoder_weights(arch, options) and not options.get("encoder_weights")


def _is_like(value: Any, default: Any) -> bool:
    if default is None or value is default:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))
