"""What the host knows of a network before it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_host.architectures.networks import stride_of
from cellseg_host.nearest import unknown


@dataclass(frozen=True)
class Architecture:
    """How a network is built and run.

    Attributes
    ----------
    name : str
    build : callable
        ``build(heads, **options)`` gives an untrained network: one input, (None, None, None, 3) in [0, 1]; for each of
        `heads` one output, (None, h, w, block²) of logits (or of probabilities, where it ends in a sigmoid), named
        after it. Options are keyword-only and have defaults. A deeply supervised network has several outputs for each
        head, group by group, the one to be used last. Layers that belong to neither encoder nor heads have names
        that begin with ``decoder``.
    stride : int
        Largest stride: inputs are multiples of it.
    margin : int
        Pixels along a cut between tiles whose answer is not used, a multiple of `stride`; at least the receptive
        field's radius, where the results must not depend on the tiling.
    paper : str
        Where it comes from.
    heads : tuple of str
        Quantities it learns unless told otherwise; ``("presence",)`` for a classifier of images.
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
        """Whether it judges an image as a whole."""
        return self.heads == ("presence",)

    def network(self, heads: Sequence[str] = (), **options: Any) -> keras.Model:
        """An untrained network; options that are not given are the architecture's own.

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
        told = ", ".join(f"{k}={v}" for k, v in options.items()) or "its defaults"
        try:
            network = self.build(tuple(heads or self.heads), **{**self.options, **given})
        except (ValueError, TypeError) as error:
            raise InputError(f"--arch {self.name} cannot be built with {told}: {str(error).splitlines()[0]}") from None
        if options and isinstance(network, keras.Model) and self.stride % (stride := stride_of(network)):
            raise InputError(
                f"--arch {self.name} with {told}: would need images whose sides are multiples of {stride}, and its are "
                f"those of {self.stride}: take fewer levels"
            )
        return network

    def _checked(self, key: str, value: Any, default: Any) -> Any:
        """The value, as the option's default is: a flag, a number, a word, or several (of which one may be bare)."""
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
    """The options of a `build` function, with their defaults."""
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def takes_encoder_weights(arch: Architecture, options: Mapping[str, Any]) -> bool:
    """Whether a network with these options has an encoder that can start from pretrained weights."""
    chosen = {**option_defaults(arch.build), **arch.options, **options}
    return "encoder_weights" in chosen and chosen.get("encoder", "its own") is not None


def wants_encoder_weights(arch: Architecture, options: Mapping[str, Any]) -> bool:
    """Whether it could start from pretrained weights and is not given any: worth a warning before training."""
    return takes_encoder_weights(arch, options) and not options.get("encoder_weights")


def _is_like(value: Any, default: Any) -> bool:
    if default is None or value is default:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, (int, float) if isinstance(default, float) else type(default))
