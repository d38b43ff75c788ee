"""Exercise 02, `response_mask`: answers as people write them, with the names of the mistakes."""

import torch


def with_cumsum(tokens, eos_id):
    is_eos = tokens == eos_id
    return is_eos.cumsum(dim=1) - is_eos.long() == 0


def with_argmax(tokens, eos_id):
    is_eos = (tokens == eos_id).int()
    first = torch.where(is_eos.any(dim=1), is_eos.argmax(dim=1), tokens.shape[1])
    return torch.arange(tokens.shape[1])[None] <= first[:, None]


def with_a_loop_of_floats(tokens, eos_id):
    mask = torch.zeros(tokens.shape)
    for b, row in enumerate(tokens.tolist()):
        length = row.index(eos_id) + 1 if eos_id in row else len(row)
        mask[b, :length] = 1.0
    return mask


def with_cumprod_as_ints(tokens, eos_id):
    going_on = (tokens != eos_id).long()
    return torch.cat((torch.ones_like(going_on[:, :1]), going_on[:, :-1].cumprod(dim=1)), dim=1)


def cumsum_without_taking_the_eos_off(tokens, eos_id):
    return (tokens == eos_id).cumsum(dim=1) == 0


def not_eos(tokens, eos_id):
    return (tokens != eos_id).float()


def at_most_one_eos(tokens, eos_id):
    return torch.cumsum((tokens == eos_id).int(), 1) < 2


def up_to_index_of_eos_plus_two(tokens, eos_id):
    mask = torch.zeros(tokens.shape)
    for b, row in enumerate(tokens.tolist()):
        mask[b, : row.index(eos_id) + 2 if eos_id in row else len(row)] = 1.0
    return mask


def pad_based(tokens, eos_id):
    return tokens.ne(0)


def argmax_alone(tokens, eos_id):
    end = (tokens == eos_id).float().argmax(dim=1)
    return (torch.arange(tokens.shape[1])[None, :] <= end[:, None]).float()


def what_is_over(tokens, eos_id):
    before = torch.nn.functional.pad((tokens == eos_id).cumsum(dim=1), (1, 0))[:, :-1]
    return before > 0


def the_longest_length_for_all(tokens, eos_id):
    lengths = [row.index(eos_id) + 1 if eos_id in row else len(row) for row in tokens.tolist()]
    return torch.ones(tokens.shape) * (torch.arange(tokens.shape[1]) < max(lengths))


def last_eos(tokens, eos_id):
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for b, row in enumerate(tokens.tolist()):
        places = [t for t, token in enumerate(row) if token == eos_id]
        mask[b, : (places[-1] + 1 if places else len(row))] = True
    return mask


def counts(tokens, eos_id):
    return with_cumsum(tokens, eos_id).sum(1)


def with_pad(tokens, eos_id):
    before = torch.nn.functional.pad((tokens == eos_id).cumsum(dim=1), (1, 0))[:, :-1]
    return before == 0


def with_a_running_flag(tokens, eos_id):
    alive, columns = torch.ones(len(tokens), dtype=torch.bool), []
    for column in tokens.T:
        columns.append(alive)
        alive = alive & (column != eos_id)
    return torch.stack(columns, dim=1).float()


def with_cummax(tokens, eos_id):
    seen = (tokens == eos_id).int().cummax(dim=1).values.bool()
    return ~torch.cat((torch.zeros_like(seen[:, :1]), seen[:, :-1]), dim=1)


def everything(tokens, eos_id):
    return torch.ones_like(tokens, dtype=torch.bool)


def nothing(tokens, eos_id):
    return torch.zeros_like(tokens)


def where_it_ends(tokens, eos_id):
    return (tokens == eos_id).float()


def after_the_end(tokens, eos_id):
    return (tokens == eos_id).cumsum(1) > 0


def down_the_rows(tokens, eos_id):
    return (tokens == eos_id).cumsum(0) == 0


def id_two(tokens, eos_id):
    return with_pad(tokens, 2)


def the_first_row(tokens, eos_id):
    return with_pad(tokens, eos_id)[:1].expand_as(tokens)


def the_tokens(tokens, eos_id):
    return tokens * with_pad(tokens, eos_id)


def argmax_without_the_end(tokens, eos_id):
    end = (tokens == eos_id).float().argmax(dim=1)
    return torch.arange(tokens.shape[1])[None] < end[:, None]


def rolled(tokens, eos_id):
    return (tokens == eos_id).cumsum(1).roll(1, 1) == 0


def row_to_the_last_but_one(tokens, eos_id):
    mask = torch.zeros_like(tokens)
    for b, row in enumerate(tokens.tolist()):
        mask[b, : row.index(eos_id) + 1 if eos_id in row else -1] = 1
    return mask


def pads_off_the_right_one(tokens, eos_id):
    return with_pad(tokens, eos_id) & (tokens != 0)


RIGHT = [
    with_cumsum,
    with_argmax,
    with_a_loop_of_floats,
    with_cumprod_as_ints,
    with_pad,
    with_a_running_flag,
    with_cummax,
]
WRONG = {
    cumsum_without_taking_the_eos_off: "EOS",
    not_eos: "EOS",
    last_eos: "EOS",
    at_most_one_eos: "EOS",
    argmax_alone: "EOS",
    up_to_index_of_eos_plus_two: "off by one",
    pad_based: "mask",
    what_is_over: "sign",
    the_longest_length_for_all: "batch",
    counts: "formula",
    everything: "mask",
    nothing: "mask",
    where_it_ends: "sign",
    after_the_end: "sign and EOS",
    down_the_rows: "batch",
    id_two: "EOS",
    the_first_row: "batch",
    the_tokens: "mask",
    argmax_without_the_end: "EOS",
    rolled: None,
    row_to_the_last_but_one: "off by one",
    pads_off_the_right_one: "mask",
}
