"""Order and reach in a graph of names."""

from collections.abc import Mapping, Sequence


class CycleError(ValueError):
    """The graph has a cycle; ``path`` walks it once and ends where it began."""

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(" -> ".join(path))
        self.path = tuple(path)


def topological_order(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The keys of ``needs``, each after all it needs; otherwise in the order given.

    Args:
        needs: name to the names it needs; names that are no key are passed over.

    Raises:
        CycleError: names need each other in a circle.
    """
    ordered: dict[str, None] = {}
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in trail:
            raise CycleError([*trail[trail.index(name) :], name])
        trail.append(name)
        for needed in needs[name]:
            if needed in needs:
                visit(needed)
        trail.pop()
        ordered[name] = None

    for name in needs:
        visit(name)
    return tuple(ordered)


def transitive(name: str, needs: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """All that ``name`` needs, directly or through others, itself left out."""
    found: set[str] = set()
    todo = list(needs.get(name, ()))
    while todo:
        needed = todo.pop()
        if needed not in found:
            found.add(needed)
            todo.extend(needs.get(needed, ()))
    return frozenset(found - {name})
