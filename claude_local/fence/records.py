"""``dataclass`` for the programs that Claude Code waits for: the standard one reads in ``inspect`` and compiles each class,
which is 9 ms of each start (benchmarks/fence_startup.py).

It knows what is used here, and type checkers take it for the standard one: annotated fields, defaults, ``field`` with a
``default_factory``, ``frozen``; positional and keyword arguments; equality.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; reading in typing takes 2 ms

if TYPE_CHECKING:
    from dataclasses import dataclass, field
else:

    class _Made:
        """A default that is made anew for each object."""

        def __init__(self, make):
            self.make = make

    def field(*, default_factory):
        return _Made(default_factory)

    def dataclass(cls=None, *, frozen=False):
        if cls is None:
            return lambda each: dataclass(each, frozen=frozen)
        names = tuple(cls.__annotations__)
        defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}

        def __init__(self, *values, **named):
            given = {**dict(zip(names, values, strict=False)), **named}
            if len(given) < len(values) + len(named) or not given.keys() <= set(names):
                raise TypeError(f"{cls.__name__} has the fields {', '.join(names)}")
            for name in names:
                if name not in given and name not in defaults:
                    raise TypeError(f"{cls.__name__} needs {name}")
                value = given.get(name, defaults.get(name))
                vars(self)[name] = value.make() if isinstance(value, _Made) else value

        def __eq__(self, other):
            return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

        def __repr__(self):
            return f"{cls.__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

        def __setattr__(self, name, value):
            raise AttributeError(f"{cls.__name__}.{name} cannot be changed")

        cls.__init__, cls.__eq__, cls.__repr__ = __init__, __eq__, __repr__
        if frozen:
            cls.__setattr__ = __setattr__
        for name, value in defaults.items():
            if isinstance(value, _Made):
                delattr(cls, name)
        return cls


__all__ = ["dataclass", "field"]
