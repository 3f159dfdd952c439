"""How a linear layer hands the relevance of its outputs to its inputs and its biases.

A layer's output is y = P - N + b: what its inputs contribute with a positive sign, with a negative
one, and the bias. A rule looks at these and at the relevance R = g y, and says what to send down:
every contribution p of P receives p * up, every n of N receives n * down. What its sign is depends
on input times weight, so inputs may have any sign, and a bias is one more contribution.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

RULES = ("composite", "epsilon", "gamma", "alpha_beta")


@dataclasses.dataclass(frozen=True)
class Rule:
    """A choice of rule.

    Args:
        name: one of RULES; "composite" is gamma where weights are shared between places, as in
            convolutions, and epsilon in dense layers.
        epsilon: added to every divisor, away from zero.
        gamma: how much more contributions of the output's own sign count.
        alpha, beta: shares of positive and negative contributions; alpha - beta must be 1.
    """

    name: str
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    beta: float = 1.0

    def check(self) -> None:
        """Raise ValueError where a field has a value that means nothing."""
        if self.name not in RULES:
            raise ValueError(f"rule {self.name!r} is unknown: choose one of {', '.join(RULES)}")
        if not (self.epsilon >= 0 and self.gamma >= 0):
            raise ValueError(
                f"epsilon and gamma must not be negative: {self.epsilon}, {self.gamma}"
            )
        if not (self.beta >= 0 and abs(self.alpha - self.beta - 1) < 1e-6):
            raise ValueError(
                f"alpha must be beta + 1, and beta not negative: {self.alpha}, {self.beta}"
            )


@dataclasses.dataclass(frozen=True)
class Sent:
    """What a rule decides for a layer.

    Args:
        up, down: factors of the contributions of P and of N, in the output's shape.
        biases: relevance that the biases keep, a scalar.
        lost: relevance that nobody gets: what epsilon keeps, and what has no contribution to go to.
    """

    up: jax.Array
    down: jax.Array
    biases: jax.Array
    lost: jax.Array


def by_epsilon(rule: Rule, g, y, bias) -> Sent:
    """Share by contribution: R_i = sum_j c_ij R_j / y_j (Bach et al., PLoS ONE 2015)."""
    factor = quotient(g * y, stable(y, rule.epsilon))
    biases = jnp.sum(factor * bias)
    return Sent(factor, -factor, biases, jnp.sum(g * y - factor * y))


def by_gamma(rule: Rule, g, y, positive, negative, bias) -> Sent:
    """Favour contributions of the output's own sign by gamma (Montavon et al. 2019).

    For outputs below zero the favoured ones are negative, as in zennit; the paper and captum know
    outputs above zero and inputs not below zero only.
    """
    up = jnp.where(y > 0, 1 + rule.gamma, 1.0)
    down = jnp.where(y < 0, 1 + rule.gamma, 1.0)
    kept = up * jnp.maximum(bias, 0) - down * jnp.maximum(-bias, 0)
    whole = up * positive - down * negative + kept
    factor = quotient(g * y, stable(whole, rule.epsilon))
    return Sent(
        factor * up, -factor * down, jnp.sum(factor * kept), jnp.sum(g * y - factor * whole)
    )


def by_alpha_beta(rule: Rule, g, y, positive, negative, bias) -> Sent:
    """Share alpha by positive and -beta by negative contributions (Bach et al. 2015)."""
    relevance = g * y
    gains, losses = jnp.maximum(bias, 0), jnp.maximum(-bias, 0)
    up = rule.alpha * quotient(relevance, positive + gains + rule.epsilon)
    down = -rule.beta * quotient(relevance, negative + losses + rule.epsilon)
    biases = jnp.sum(up * gains + down * losses)
    given = up * (positive + gains) + down * (negative + losses)
    return Sent(up, down, biases, jnp.sum(relevance - given))


def stable(values, epsilon: float) -> jax.Array:
    """Move values away from zero by epsilon; zero itself up."""
    return values + jnp.where(values < 0, -epsilon, epsilon)


def quotient(above, below) -> jax.Array:
    """Return above / below, zero where below is."""
    return jnp.where(below == 0, 0.0, above / jnp.where(below == 0, 1.0, below))
