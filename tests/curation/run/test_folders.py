"""A folder is walked while others write there: what goes meanwhile is none of its files, and no error."""

import os
import threading
from pathlib import Path

from curation.commands.forget.copies import links_out
from curation.run.folders import names_in
from curation.storage.lock import all_alone


def test_files_that_come_and_go_while_a_folder_is_walked_stop_nobody(tmp_path: Path) -> None:
    beats, is_over = tmp_path / "_lease" / "_tmp", threading.Event()
    (tmp_path / "00000.tar").write_bytes(b"tar")

    def beat() -> None:
        number = 0
        while not is_over.is_set():
            beats.mkdir(parents=True, exist_ok=True)
            for _ in range(20):
                number += 1
                (beats / f"{number}").write_bytes(b"x")
            for path in beats.iterdir():
                path.unlink()
            beats.rmdir()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        walks = [names_in(tmp_path) for _ in range(1500)]
        for _ in range(1500):
            assert links_out(tmp_path, ()) == {}
            with all_alone(tmp_path):
                pass
    finally:
        is_over.set()
        beating.join()
    assert all(walk["00000.tar"] == 3 for walk in walks)
    assert any(len(walk) > 1 for walk in walks), "some walks met what comes and goes"


def test_sizes_are_told_by_path_in_order_and_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "1.txt").write_bytes(b"12")
    (folder / "a.txt").write_bytes(b"1")
    (folder / "linked.txt").symlink_to(folder / "a.txt")
    (folder / "nowhere").symlink_to(tmp_path / "nothing")
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    assert names_in(folder) == {"a.txt": 1, "b/1.txt": 2, "linked.txt": 1}
    assert names_in(tmp_path / "nothing") == {}
