"""What the tests of the figures share: a figure as it is saved, its words, and rows of metrics."""

import io


def png(figure):
    """The figure as it would be saved; any warning while drawing is an error here."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG") and len(picture.getvalue()) > 5000
    return picture.getvalue()


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def title(figure):
    return figure.get_suptitle()


def updates(n, **more):
    return [
        {
            "update": i,
            "objective/scores": 0.1 * i,
            "objective/rlhf_reward": 0.08 * i,
            "objective/kl": 0.02 * i,
            "objective/kl_policy_to_ref_exact": 0.02 * i,
            **more,
        }
        for i in range(1, n + 1)
    ]
