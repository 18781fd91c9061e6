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
    for name in needs:
        if name not in ordered:
            _visit(name, needs, ordered)
    return tuple(ordered)


def _visit(name: str, needs: Mapping[str, Sequence[str]], ordered: dict[str, None]) -> None:
    """Append ``name``, all it needs first; without recursion, since chains may be longer than Python's stack."""
    trail = {name: iter(needs[name])}
    while trail:
        current, rest = next(reversed(trail.items()))
        needed = next((other for other in rest if other in needs and other not in ordered), None)
        if needed is None:
            ordered[current] = None
            del trail[current]
        elif needed in trail:
            path = list(trail)
            raise CycleError([*path[path.index(needed) :], needed])
        else:
            trail[needed] = iter(needs[needed])


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


def weight_behind(needs: Mapping[str, Sequence[str]], weights: Mapping[str, int]) -> dict[str, int]:
    """Name to the weight of the heaviest way from it to one that nothing needs, its own left out.

    Args:
        needs: as in ``topological_order``, of which it has the errors.
        weights: of each key of ``needs``; not negative.
    """
    behind = dict.fromkeys(needs, 0)
    for name in reversed(topological_order(needs)):
        for needed in needs[name]:
            if needed in behind:
                behind[needed] = max(behind[needed], behind[name] + weights[name])
    return behind
