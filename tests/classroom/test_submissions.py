"""What is read of a folder of answers, and what is not."""

import os

import pytest

from minippo.classroom import submissions
from minippo.classroom.box.reading import File
from minippo.classroom.submissions import Student, changed, read_student, read_submissions
from minippo.errors import InputError


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "answers"
    made.mkdir()
    (made / "anna.py").write_text("a = 1")
    (made / "bob").mkdir()
    (made / "bob" / "two.ipynb").write_text("{}")
    (made / "bob" / "one.py").write_text("b = 1")
    (made / "bob" / "data.csv").write_text("1,2")
    (made / "bob" / "__pycache__").mkdir()
    (made / "bob" / "__pycache__" / "one.py").write_text("")
    (made / "bob" / ".ipynb_checkpoints").mkdir()
    (made / ".DS_Store").write_text("")
    return made


def test_a_file_or_a_folder_is_a_student(folder):
    assert read_submissions(folder) == [
        Student("anna", (File("anna.py", b"a = 1"),)),
        Student("bob", (File("one.py", b"b = 1"), File("two.ipynb", b"{}"))),
    ]


def test_two_entries_of_one_name_belong_to_one_student(folder):
    (folder / "anna.ipynb").write_text("{}")
    anna, _ = read_submissions(folder)
    assert [file.name for file in anna.files] == ["anna.ipynb", "anna.py"]


def test_who_handed_in_nothing_readable_is_a_student_too(folder):
    (folder / "carl.pdf").write_text("%PDF")
    (folder / "dora").mkdir()
    (folder / "emil.py").mkdir()
    told = {student.name: student.remarks for student in read_submissions(folder)}
    assert told["carl"] == ("carl.pdf is neither .py nor .ipynb",)
    assert told["dora"] == ("there is neither .py nor .ipynb in the folder",)
    assert "emil.py" in told


def test_a_link_is_refused_and_said_to_lead_out(folder, tmp_path):
    (tmp_path / "secret.py").write_text("seed = 1")
    (folder / "eve.py").symlink_to(tmp_path / "secret.py")
    (folder / "bob" / "zwei.py").symlink_to("one.py")
    (folder / "fay").symlink_to(tmp_path)
    students = {student.name: student for student in read_submissions(folder)}
    for name, file in (("eve", "eve.py"), ("fay", "fay")):
        assert students[name].files == ()
        assert students[name].remarks == (
            f"{file} is a link out of the folder; links are not followed",
        )
    assert students["bob"].remarks == ("zwei.py is a link; links are not followed",)
    assert len(students["bob"].files) == 2


def test_what_is_too_large_or_no_file_is_not_read(folder, monkeypatch):
    with open(folder / "gus.py", "wb") as file:
        file.truncate(100 << 20)  # a hole: it takes no room
    os.mkfifo(folder / "hal.py")
    monkeypatch.setattr(submissions, "MOST_FILES", 1)
    told = {student.name: student.remarks for student in read_submissions(folder)}
    assert told["gus"] == ("gus.py is larger than 16 MiB",)
    assert told["hal"] == ("hal.py is no plain file",)
    assert told["bob"] == ("two.ipynb: only the first 1 files are read",)


def test_a_file_that_may_not_be_read(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(submissions.os, "open", refuse)
    assert read_student(folder / "anna.py").remarks == (
        "anna.py cannot be read: Permission denied",
    )


def test_names_that_are_no_utf8(folder):
    name = os.fsdecode(b"caf\xe9.py")
    (folder / name).write_text("")
    assert os.fsdecode(b"caf\xe9") in [student.name for student in read_submissions(folder)]
    assert len({student.digest() for student in read_submissions(folder)}) == 3


def test_nobody_and_nowhere(tmp_path):
    with pytest.raises(InputError, match="nobody has handed in"):
        read_submissions(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_submissions(tmp_path / "nowhere")


def test_what_has_changed_is_named(folder):
    before = read_submissions(folder)
    assert changed(before, folder) == []
    (folder / "anna.py").write_text("a = 2")
    (folder / "carl.py").write_text("")
    assert changed(before, folder) == ["anna", "carl"]
    for path in (folder / "anna.py", folder / "carl.py"):
        path.unlink()
    assert changed(before, folder) == ["anna"]


def test_the_digest_tells_where_a_file_ends():
    one = Student("a", (File("x.py", b"12"), File("y.py", b"3")))
    other = Student("a", (File("x.py", b"1"), File("y.py", b"23")))
    assert one.digest() != other.digest()
