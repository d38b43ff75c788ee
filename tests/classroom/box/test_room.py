"""What a server knows of an exercise, and the way into a room."""

import os

from minippo.classroom.box.room import FIRST_USER, Limits, Room, enter, folder_of
from minippo.classroom.box.walls import WORK, Walls


def room(root, **walls):
    return Room({}, Limits(), [], [], str(root), 0, FIRST_USER + 1, Walls(**walls))


def test_only_behind_that_wall_there_is_another_user(tmp_path):
    assert room(tmp_path).user() is None
    assert room(tmp_path, user=True).user() == FIRST_USER + 1


def test_the_folder_of_an_answer(tmp_path):
    assert folder_of(room(tmp_path, files=True)) == WORK
    assert folder_of(room(tmp_path)) == f"{tmp_path}/work-{os.getpid()}"


def test_without_walls_a_room_is_a_fork(tmp_path):
    child = enter(room(tmp_path))
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
