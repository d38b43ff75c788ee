import pytest
import torch

from minippo import shapes


def test_what_fits_is_let_through():
    two_by_three = torch.zeros(2, 3)
    shapes.check_shapes(
        a=(two_by_three, "B T"),
        b=(torch.zeros(2, 3, 5), "B T V"),
        c=(torch.zeros(2), "B"),
        m=(two_by_three.bool(), "bool B T"),
        k=(two_by_three.long(), "int64 B T"),
        h=(two_by_three.half(), "B T"),
    )
    shapes.check_shapes(a=(two_by_three, "..."), b=(two_by_three.bool(), "bool ..."))
    shapes.check_shapes(square=(torch.zeros(3, 3), "N N"))
    shapes.check_mask(m=torch.tensor([[True, False, False], [True, True, True]]))
    shapes.check_data(a=two_by_three)
    shapes.check_range("[0, 1]", gamma=0, lam=1.0)
    shapes.check_range("(0, inf]", cliprange=float("inf"))
    shapes.check_count(n=1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"a": ((2, 3), "B T"), "b": ((2, 1), "B T")},
            r"^b: got shape \[2, 1\], wanted \[B, T\] with B = 2 as in a, T = 3 as in a$",
        ),
        ({"a": ((2, 3), "B T"), "b": ((3,), "B T")}, r"^b: got shape \[3\], wanted \[B, T\] with"),
        (
            {"a": ((2, 3), "B T"), "s": ((3,), "B")},
            r"^s: got shape \[3\], wanted \[B\] with B = 2 as in a$",
        ),
        ({"a": ((2, 3), "B T V")}, r"^a: got shape \[2, 3\], wanted \[B, T, V\]$"),
        ({"a": ((), "B T")}, r"^a: got shape \[\], wanted \[B, T\]$"),
        (
            {"a": ((2, 3), "..."), "b": ((3,), "...")},
            r"^b: got shape \[3\], wanted \[\.\.\.\] with \.\.\. = \[2, 3\] as in a$",
        ),
        ({"a": ((2, 3), "N N")}, r"^a: got shape \[2, 3\], wanted \[N, N\] with N = 2 as in a$"),
        (
            {"a": ((0, 3), "B T")},
            r"^a: got shape \[0, 3\], wanted at least one element in every dimension$",
        ),
        (
            {"a": ((2, 0), "B T")},
            r"^a: got shape \[2, 0\], wanted at least one element in every dimension$",
        ),
    ],
)
def test_a_shape_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        shapes.check_shapes(
            **{name: (torch.zeros(size), wanted) for name, (size, wanted) in arguments.items()}
        )


@pytest.mark.parametrize(
    "tensor, wanted, message",
    [
        (torch.zeros(1, 1, dtype=torch.int64), "B T", "^x: got dtype torch.int64, wanted float$"),
        (torch.zeros(1, 1), "bool B T", "^x: got dtype torch.float32, wanted bool$"),
        (
            torch.zeros(1, 1, dtype=torch.int32),
            "int64 B T",
            "^x: got dtype torch.int32, wanted int64$",
        ),
        ([[1.0]], "B T", "^x: got list, wanted a tensor$"),
    ],
)
def test_a_dtype_is_refused_by_name(tensor, wanted, message):
    with pytest.raises(ValueError, match=message):
        shapes.check_shapes(x=(tensor, wanted))


def test_one_tensor_may_be_empty():
    shapes.check_shape("x", torch.zeros(0), "N")
    with pytest.raises(ValueError, match=r"^x: got shape \[1, 1\], wanted \[N\]$"):
        shapes.check_shape("x", torch.zeros(1, 1), "N")


@pytest.mark.parametrize(
    "rows, message",
    [
        ([[1, 1], [0, 0]], "^m: row 1 has no True, wanted at least one in every row$"),
        ([[1, 0, 1]], "^m: row 0 is True at t=2 after a False, wanted True from t=0 on$"),
        ([[1, 1], [0, 1]], "^m: row 1 is True at t=1 after a False"),
    ],
)
def test_a_mask_is_refused_by_row(rows, message):
    with pytest.raises(ValueError, match=message):
        shapes.check_mask(m=torch.tensor(rows).bool())


def test_ids_that_were_found_good_are_known_until_something_is_written():
    ids = torch.tensor([[0, 4], [1, 2]])
    shapes.check_ids(5, ids=ids)
    assert shapes.is_known_good(ids, 5) and shapes.is_known_good(ids, 6)
    assert not shapes.is_known_good(ids, 4) and not shapes.is_known_good(ids.clone(), 5)
    with pytest.raises(ValueError, match=r"^ids: got ids from 0 to 4, wanted ids in \[0, 4\)$"):
        shapes.check_ids(4, ids=ids)
    ids[0, 0] = -1
    assert not shapes.is_known_good(ids, 5)
    with pytest.raises(ValueError, match=r"^ids: got ids from -1 to 4, wanted ids in \[0, 5\)$"):
        shapes.check_ids(5, ids=ids)


def test_rows_are_known_to_be_as_good_as_the_whole():
    ids, rows = torch.tensor([[0], [4]]), torch.tensor([[4]])
    shapes.rows_are_as_good(rows, ids)
    assert not shapes.is_known_good(rows, 5)
    shapes.check_ids(5, ids=ids)
    shapes.rows_are_as_good(rows, ids)
    assert shapes.is_known_good(rows, 5) and not shapes.is_known_good(rows, 4)
    mask, part = torch.ones(2, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    shapes.check_mask(m=mask)
    shapes.rows_are_as_good(part, mask)
    assert shapes.is_known_good(part)


def test_data_that_requires_grad_is_refused():
    with pytest.raises(ValueError, match="^rewards: got a tensor that requires grad, wanted data"):
        shapes.check_data(rewards=torch.zeros(1, requires_grad=True))


@pytest.mark.parametrize(
    "interval, value, message",
    [
        ("[0, 1]", -0.1, r"^x: got -0.1, wanted a number in \[0, 1\]$"),
        ("[0, 1]", 1.1, r"^x: got 1.1, wanted a number in \[0, 1\]$"),
        ("(0, inf]", 0, r"^x: got 0, wanted a number in \(0, inf\]$"),
        ("[0, inf)", float("inf"), r"^x: got inf, wanted a number in \[0, inf\)$"),
        ("[-inf, inf]", float("nan"), r"^x: got nan, wanted a number in \[-inf, inf\]$"),
        ("[0, 1]", "0.5", r"^x: got str, wanted a number in \[0, 1\]$"),
        ("[0, 1]", True, r"^x: got bool, wanted a number in \[0, 1\]$"),
        ("[0, 1]", torch.tensor(0.5), r"^x: got Tensor, wanted a number in \[0, 1\]$"),
    ],
)
def test_a_number_is_refused_by_name(interval, value, message):
    with pytest.raises(ValueError, match=message):
        shapes.check_range(interval, x=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None])
def test_a_count_is_refused(value):
    with pytest.raises(ValueError, match="^n: got .*, wanted a whole number of at least 1$"):
        shapes.check_count(n=value)
