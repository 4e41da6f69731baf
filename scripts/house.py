"""Counts the house: doors, rooms, arrows between them, circles and floors, from the imports that grimp reads.

    python scripts/house.py [FOLDER]

FOLDER is a checkout, this one where it is left out. A room is what stands directly below `curation`, `facemakeup` and
`curation.commands`; an arrow says that some module of one room imports some module of another. That no arrow points up
is what import-linter holds (`make lint`).
"""

import sys
from collections import defaultdict
from pathlib import Path

import grimp

PACKAGES = ("curation", "facemakeup")
COMMANDS = "commands"


def room_of(module: str) -> str:
    """Return the room that a module stands in."""
    _, *path = module.split(".")
    return ".".join(path[:2]) if path[0] == COMMANDS and len(path) > 1 else path[0]


def reached(arrows: dict[str, set[str]], room: str) -> set[str]:
    """Return every room that can be reached from one."""
    seen: set[str] = set()
    waiting = [room]
    while waiting:
        fresh = arrows[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def num_floors(arrows: dict[str, set[str]], room: str, above: tuple[str, ...] = ()) -> int:
    """Return on which floor a room stands: one above the highest that it builds on."""
    below = arrows[room] - {*above, room}
    return 1 + max((num_floors(arrows, each, (*above, room)) for each in below), default=0)


def count(package: str) -> str:
    """Return the figures of one package in a line."""
    graph = grimp.build_graph(package, cache_dir=None)
    modules = [module for module in graph.modules if module != package]
    imports = [(module, to) for module in modules for to in graph.find_modules_directly_imported_by(module)]
    imports = [(module, to) for module, to in imports if to != package]
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, to in imports:
        if room_of(module) != room_of(to):
            arrows[room_of(module)].add(room_of(to))
    rooms = {room_of(module) for module in modules} - {COMMANDS}
    doors = {module.split(".")[1] for module in modules}
    circles = sum(room in reached(arrows, room) for room in rooms)
    floors = max(num_floors(arrows, room) for room in rooms)
    return (
        f"{package}: {len(modules)} modules, {len(imports)} imports; {len(doors)} doors, {len(rooms)} rooms, "
        f"{sum(map(len, arrows.values()))} arrows between rooms, {circles} rooms in circles, {floors} floors"
    )


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parents[1]))
    for name in PACKAGES:
        print(count(name))
