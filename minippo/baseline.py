"""Stage 3: measure an action against what was to be expected in its state.

A reward of 5 is good news only where 3 was expected. Subtracting a number that depends on the state alone leaves the
policy gradient as it is and takes away noise. A critic learns that number, by regression on what followed.
"""

from minippo.masked import masked_mean, zero_padding
from minippo.shapes import check_data, check_mask, check_shapes


def value_loss(*, values, value_targets, response_mask):
    """Squared error of the critic; the mean over True tokens.

    Equation (3.2)  L = 1/2 mean_{True t} (V(s_t) - R_t)^2,  R_t = value_targets
    Source   Schulman et al. 2016, arXiv:1506.02438, section 5 (value function by regression).
    Shapes   values, value_targets [B,T] float; response_mask [B,T] bool -> scalar.
    Gradient to values: (V - R) / (number of Trues); exactly 0 where masked. None to value_targets, they are data.
    Limits   0 when the critic is right everywhere; the best constant is the mean of the targets.
    Raises   ValueError: shapes differ, value_targets requires grad, a bad mask.
    """
    check_shapes(
        values=(values, "B T"), value_targets=(value_targets, "B T"), response_mask=(response_mask, "bool B T")
    )
    check_mask(response_mask=response_mask)
    check_data(value_targets=value_targets)
    errors = zero_padding(values=values - value_targets, mask=response_mask)  # selected before the square
    return 0.5 * masked_mean(values=errors**2, mask=response_mask)
