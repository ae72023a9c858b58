"""``dataclass`` for the programs that Claude Code waits for: the standard one reads in ``inspect`` and compiles each class,
which is 9 ms of each start (benchmarks/fence_startup.py).

It knows what is used here, and type checkers take it for the standard one: annotated fields, defaults, ``field`` with a
``default_factory``, ``frozen``; positional and keyword arguments; equality and hashes.
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
        made = {name: value.make for name, value in defaults.items() if isinstance(value, _Made)}
        for name in made:
            delattr(cls, name)
            del defaults[name]

        def __init__(self, *values, **named):
            own = vars(self)
            own.update(zip(names, values, strict=False))
            own.update(named)
            given = len(own)
            for name, value in defaults.items():
                own.setdefault(name, value)
            for name, make in made.items():
                if name not in own:
                    own[name] = make()
            if given < len(values) + len(named) or len(own) != len(names) or not all(name in own for name in names):
                raise TypeError(f"the fields of {cls.__name__} are {', '.join(names)}")

        def __eq__(self, other):
            return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

        def __repr__(self):
            return f"{cls.__name__}({', '.join(f'{name}={vars(self)[name]!r}' for name in names)})"

        def __hash__(self):
            return hash(tuple(vars(self)[name] for name in names))

        def __setattr__(self, name, value):
            raise AttributeError(f"{cls.__name__}.{name} cannot be changed")

        cls.__init__, cls.__eq__, cls.__repr__ = __init__, __eq__, __repr__
        cls.__hash__ = __hash__ if frozen else None
        if frozen:
            cls.__setattr__ = __setattr__
        return cls


__all__ = ["dataclass", "field"]
