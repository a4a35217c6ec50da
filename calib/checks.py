"""Whether the belief's model is one that gives such answers: prequential score, alarm, posterior predictive check.

Every answer was predicted before it was taken in (`predict` of an engine). The log score is the sum of the log
probabilities of what was answered; the baseline predicts from the prior all along.

The alarm is a test martingale (Ville 1939; Ramdas, Grunwald, Vovk and Shafer 2023): the mean over simple alternatives
of prod_t q(y_t | past)/p(y_t | past). Of a person as modelled it ever exceeds 1/ALPHA with probability ALPHA at most,
whatever is asked and whenever one stops. p is the average of a finite number of particles, so ALPHA holds up to their
error. All arrays have a leading axis of people; no row depends on another.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.streams import stream_key, uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Masks = NDArray[np.bool_]

ALPHA = 0.05  # probability at most that the alarm is ever raised by a person as modelled
WORDS = "No intent that I can represent explains these answers."
_JUST_NOTICEABLE = (0.05, 0.1, 0.15, 0.2)  # of a lexicographic order, in scaled attributes
_COUNTS = (0.02, 0.1)  # difference that counts for a majority
_KEPT, _BROKEN = 4.0, 0.4  # answers for and against a rule before the first one
_PEOPLE_AT_ONCE = 256  # whose rules are in memory together

# Weights of the mixture: somebody of one kind in both channels, or of any kind in each, or as modelled in one.
_TOGETHER = {"chance": 0.4, "lexicographic": 0.3, "majority": 0.1}
_APART = {"modelled": 0.25, "chance": 0.25, "lexicographic": 0.25, "habit": 0.25}  # of the 0.2 that are left


class Track(NamedTuple):
    """The alternatives of one channel (menu or comparison); A alternatives, the last R of them rules, K options."""

    log_ratio: Floats  # (N, A) log prod q/p
    seen: Floats  # (N, K) how often each option was answered
    last: Ints  # (N,) option answered last, -1 for none
    kept: Floats  # (N, R) how often each rule was kept
    told: Floats  # (N, R) how often it left out any option


class Checks(NamedTuple):
    """What is carried from round to round; T = max_rounds."""

    prior: Any  # the engine's first belief, by few particles
    menu: Floats  # (N, K, J) what was offered last, as believed
    num_answers: Ints  # (N,)
    log_score: Floats  # (N,)
    log_baseline: Floats  # (N,)
    menus: Track
    comparisons: Track
    log_e: Floats  # (N,) the martingale now
    highest: Floats  # (N,) and at its highest after any answer
    raised: Ints  # (N,) round in which the alarm was raised, -1 where it is not
    asked: Ints  # (N, T + 1) pair by round, -1 for none
    said: Ints  # (N, T + 1) answer to it, -1 for none


def start(prior: Any, num: int, num_options: int, num_attributes: int, max_rounds: int) -> Checks:
    """Before the first answer."""
    num_rules = len(_rule_names(num_attributes))

    def track(options: int) -> Track:
        none, rules = np.full(num, -1), np.zeros((num, num_rules))
        return Track(np.zeros((num, 2 + num_rules)), np.zeros((num, options)), none, rules, rules)

    by_round = np.full((num, max_rounds + 1), -1)
    nobody, zeros = np.full(num, -1), np.zeros(num)
    return Checks(
        prior=prior,
        menu=np.zeros((num, num_options, num_attributes)),
        num_answers=np.zeros(num, np.int64),
        log_score=zeros,
        log_baseline=zeros,
        menus=track(num_options),
        comparisons=track(3),
        log_e=zeros,
        highest=zeros,
        raised=nobody,
        asked=by_round,
        said=by_round,
    )


def observe(
    checks: Checks, round_number: int, probability: Floats, baseline: Floats, answer: Ints, pair: Ints, gap: Floats
) -> Checks:
    """After a round's answers (N, 3), whose options had `probability` (N, 3, K) and under the prior `baseline`.

    All count for the score; the alarm follows menus and comparisons.
    pair (N,) was compared, gap (N, J) is its first card less its second, in scaled attributes.
    """
    there = answer >= 0
    at = np.maximum(answer, 0)[:, :, None]
    log_p, log_b = (
        np.log(np.where(there, np.take_along_axis(p, at, axis=2)[:, :, 0], 1.0)) for p in (probability, baseline)
    )
    checks = checks._replace(
        num_answers=checks.num_answers + there[:, 0] + there[:, 1] + there[:, 2],
        log_score=checks.log_score + log_p[:, 0] + log_p[:, 1] + log_p[:, 2],
        log_baseline=checks.log_baseline + log_b[:, 0] + log_b[:, 1] + log_b[:, 2],
    )
    menus = _followed(checks.menus, answer[:, 0], log_p[:, 0], lambda rows: menu_rules(checks.menu[rows]))
    checks = _judged(checks._replace(menus=menus), round_number)
    comparisons = _followed(checks.comparisons, answer[:, 1], log_p[:, 1], lambda rows: comparison_rules(gap[rows]))
    asked, said = checks.asked.copy(), checks.said.copy()
    compared = there[:, 1]
    asked[compared, round_number], said[compared, round_number] = pair[compared], answer[compared, 1]
    checks = checks._replace(comparisons=comparisons, asked=asked, said=said)
    return _judged(checks, round_number)


def _followed(track: Track, answer: Ints, log_p: Floats, rules_of: Any) -> Track:
    """The alternatives after one answer each (N,), -1 where there is none, of log probability log_p as modelled."""
    track = track._replace(**{name: column.copy() for name, column in track._asdict().items()})
    rows = np.flatnonzero(answer >= 0)
    for first in range(0, len(rows), _PEOPLE_AT_ONCE):
        some = rows[first : first + _PEOPLE_AT_ONCE]
        _follow(track, some, answer[some], log_p[some], rules_of(some))
    return track


def _follow(track: Track, rows: Ints, answer: Ints, log_p: Floats, rules: Masks) -> None:
    """One more answer (n,) of the people `rows`, in place; rules (n, R - 1, K) are the options that each would take."""
    num_options, number = track.seen.shape[1], np.arange(len(rows))
    last = track.last[rows]
    again = (np.arange(num_options) == last[:, None]) | (last < 0)[:, None]
    rules = np.concatenate([again[:, None], rules], axis=1)
    size = rules.sum(axis=2)
    tells = (size > 0) & (size < num_options)
    hit = rules[number, :, answer]
    follows = (track.kept[rows] + _KEPT) / (track.told[rows] + _KEPT + _BROKEN)
    log_q = np.log(np.where(hit, follows / np.maximum(size, 1), (1 - follows) / np.maximum(num_options - size, 1)))
    track.log_ratio[rows, 2:] += np.where(tells, log_q - log_p[:, None], 0.0)
    track.log_ratio[rows, 0] += -np.log(num_options) - log_p
    seen = track.seen[rows]
    krichevsky_trofimov = (seen[number, answer] + 0.5) / (seen.sum(axis=1) + num_options / 2)
    track.log_ratio[rows, 1] += np.log(krichevsky_trofimov) - log_p
    track.seen[rows, answer] += 1
    track.last[rows] = answer
    track.kept[rows] += tells & hit
    track.told[rows] += tells


def _orders(num_attributes: int) -> Ints:
    """(O, 2) the first two attributes of a lexicographic order."""
    pairs = list(itertools.permutations(range(num_attributes), 2)) or [(0, 0)]
    return np.array(pairs)


def _rule_names(num_attributes: int) -> list[str]:
    """The kind of each rule: what was answered last again, then those of `menu_rules` and `comparison_rules`."""
    num_orders = len(_JUST_NOTICEABLE) * len(_orders(num_attributes))
    return ["habit", "habit", *["majority"] * len(_COUNTS), *["lexicographic"] * num_orders]


def menu_rules(features: Floats) -> Masks:
    """(n, R - 1, K) what each rule takes of menus (n, K, J): the last option, what beats most, what an order leaves."""
    first, second = _orders(features.shape[2]).T
    proposal = np.zeros((len(features), 1, features.shape[1]), bool)
    proposal[:, 0, -1] = True
    rules = [proposal]
    gap = features[:, :, None] - features[:, None]
    for counts in _COUNTS:
        wins = np.sign(np.sum((gap > counts).astype(np.int64) - (gap < -counts), axis=3)).sum(axis=2)
        rules.append((wins == wins.max(axis=1, keepdims=True))[:, None])
    by_second = features[:, :, second]
    for jnd in _JUST_NOTICEABLE:
        near = (features >= features.max(axis=1, keepdims=True) - jnd)[:, :, first]  # (n, K, O)
        best = np.max(np.where(near, by_second, -np.inf), axis=1, keepdims=True)
        rules.append(np.moveaxis(near & (by_second >= best - jnd), 2, 1))
    return np.concatenate(rules, axis=1)


def comparison_rules(gap: Floats) -> Masks:
    """(n, R - 1, 3) the same of two cards that are `gap` (n, J) apart; all three answers where a rule does not tell."""
    first, second = _orders(gap.shape[1]).T
    majority = [np.sum((gap > c).astype(np.int64) - (gap < -c), axis=1)[:, None] for c in _COUNTS]
    orders = []
    for jnd in _JUST_NOTICEABLE:
        side = np.where(np.abs(gap) > jnd, np.sign(gap), 0.0)
        orders.append(np.where(side[:, first] != 0, side[:, first], side[:, second]))
    by_majority, by_order = np.concatenate(majority, axis=1), np.concatenate(orders, axis=1)
    equal = np.concatenate([by_majority == 0, np.ones(by_order.shape, bool)], axis=1)
    side = np.concatenate([by_majority, by_order], axis=1)
    undecided = (side == 0) & np.concatenate([np.zeros(by_majority.shape, bool), by_order == 0], axis=1)
    rules = np.stack([(side > 0) | undecided, (side < 0) | undecided, (side == 0) & equal], axis=2)
    return np.concatenate([np.ones((len(gap), 1, 3), bool), rules], axis=1)


def _judged(checks: Checks, round_number: int) -> Checks:
    """With the martingale as it stands, and the alarm where it is up."""
    kinds = np.array(["chance", "habit", *_rule_names(checks.menu.shape[2])])
    together = np.array([_TOGETHER.get(kind, 0.0) / np.sum(kinds == kind) for kind in kinds])
    kinds = np.where(kinds == "majority", "habit", kinds)
    apart = np.array([_APART[kind] / np.sum(kinds == kind) for kind in kinds])
    m, c = checks.menus.log_ratio, checks.comparisons.log_ratio
    each = _log_mean(m, apart, _APART["modelled"]) + _log_mean(c, apart, _APART["modelled"])
    rest = 1 - sum(_TOGETHER.values())
    both = _log_mean(m + c, together, 0.0)
    log_e = np.logaddexp(both, np.log(rest) + each)
    highest = np.maximum(checks.highest, log_e)
    newly = (checks.raised < 0) & (highest >= -np.log(ALPHA))
    return checks._replace(log_e=log_e, highest=highest, raised=np.where(newly, round_number, checks.raised))


def _log_mean(log_ratio: Floats, weights: Floats, modelled: float) -> Floats:
    """(N,) log of the weighted sum of ratios (N, A), and of the model's own, which is 1. In one order: by cumsum."""
    top = np.maximum(log_ratio.max(axis=1, keepdims=True), 0.0)
    total = np.cumsum(np.exp(log_ratio - top) * weights, axis=1)[:, -1:] + modelled * np.exp(-top)
    result: Floats = (top + np.log(total))[:, 0]
    return result


class Replicated(NamedTuple):
    """Answers to the same questions, at draws of the posterior."""

    said: Ints  # (A, P) what a person with these parameters would answer
    surprise: float  # P(replicated answers are as improbable as the given ones, or more)
    against: float | None  # P(as many comparisons against the drawn utility, or more); None without comparisons


def replicate(seed: int, person: int, probability: Floats, answer: Ints, is_comparison: Masks) -> Replicated:
    """A posterior predictive check (Rubin 1984; Gelman, Meng and Stern 1996) of answers (A,), A > 0.

    probability (A, K, P) of every option at draws of the posterior. Such p values are conservative: the posterior has
    seen the answers that it is asked about.
    """
    num, _, draws = probability.shape
    u = uniforms(stream_key(seed, "replicated answers"), np.array([person]), 0, num * draws).reshape(num, draws)
    cumulative = np.cumsum(probability, axis=1)
    said = np.sum(u[:, None] * cumulative[:, -1:] >= cumulative, axis=1)
    said = np.minimum(said, probability.shape[1] - 1)

    def of(options: Ints) -> Floats:
        return np.take_along_axis(probability, options[:, None], axis=1)[:, 0]

    given = np.broadcast_to(answer[:, None], said.shape)
    surprise = np.log(of(said)).sum(axis=0) <= np.log(of(given)).sum(axis=0)
    against = None
    if is_comparison.any():
        strict = probability[is_comparison, :2]

        def count(options: Ints) -> Ints:
            other = np.take_along_axis(strict, 1 - np.minimum(options, 1)[:, None], axis=1)[:, 0]
            mine = np.take_along_axis(strict, np.minimum(options, 1)[:, None], axis=1)[:, 0]
            return np.sum((options < 2) & (mine < other), axis=0)

        against = float(np.mean(count(said[is_comparison]) >= count(given[is_comparison])))
    return Replicated(said, float(np.mean(surprise)), against)
