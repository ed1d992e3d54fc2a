"""The fraud scenario: card transactions of a bank, and the day a new payment method appears.

Before the onset there are three payment methods and one fraud pattern that a model learns well. From the onset on a
share of the traffic comes through ``instant_wallet``: its honest customers look like fraud used to look (new devices,
bursts of payments, risky merchants), so the model's precision falls; its fraud looks like nothing seen before (account
takeover: old accounts, at home, unusual amounts), so its confidence falls too. docs/demo.md describes every law.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from stationkeeper.monitor.settings import HOUR_MS

Pattern = Literal["takeover", "mule", "testing"]
PATTERNS: Final[tuple[Pattern, ...]] = ("takeover", "mule", "testing")
METHODS: Final = ("card_present", "card_online", "transfer", "instant_wallet")
COUNTRIES: Final = ("DE", "FR", "NL", "IT", "ES", "PL", "US", "GB")
# Invented: one home market and a tail that a monitor must watch too. Must sum to 1, in the order of COUNTRIES.
COUNTRY_SHARES: Final = (0.34, 0.18, 0.12, 0.10, 0.09, 0.07, 0.05, 0.05)
MERCHANTS: Final = ("grocery", "fuel", "travel", "electronics", "fashion", "gaming", "gift_cards", "services")
# Invented: everyday shops lead, gift cards are rare. Must sum to 1, in the order of MERCHANTS.
MERCHANT_SHARES: Final = (0.30, 0.14, 0.08, 0.12, 0.14, 0.07, 0.03, 0.12)
# Invented: the wallet is used online, so gaming, fashion and gift cards lead where old fraud was. Must sum to 1.
WALLET_MERCHANT_SHARES: Final = (0.12, 0.02, 0.06, 0.18, 0.20, 0.24, 0.08, 0.10)
NUMERIC: Final = (
    "amount",
    "amount_ratio",
    "distance_km",
    "payments_1h",
    "account_age_days",
    "device_age_days",
    "merchant_risk",
)
CATEGORICAL: Final = ("method", "country", "merchant")
FEATURES: Final = (*NUMERIC, "foreign", *CATEGORICAL)

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class FraudStory:
    """What a seed decides: when, how much and how the new payment method comes; ``share`` 0 is the no-shift run."""

    seed: int = 7
    onset_hours: float = 6.0
    share: float = 0.10
    pattern: Pattern = "takeover"
    new_devices: bool = True
    bursts: bool = True

    @classmethod
    def drawn(cls, seed: int) -> "FraudStory":
        """Draw a story from its seed: onset 4-9 h, share 3-15 %, one of three fraud patterns, shifted features."""
        rng = np.random.default_rng([seed, 1])
        return cls(
            seed=seed,
            onset_hours=float(rng.uniform(4.0, 9.0)),
            share=float(rng.uniform(0.03, 0.15)),
            pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
            new_devices=bool(rng.random() < 0.7),
            bursts=bool(rng.random() < 0.7),
        )

    def without_shift(self) -> "FraudStory":
        """Return the same stream in which nothing ever happens."""
        return FraudStory(self.seed, self.onset_hours, 0.0, self.pattern, self.new_devices, self.bursts)


@dataclass(frozen=True, slots=True)
class Transactions:
    """A run of transactions as columns of length n; ``label_time`` is when the bank learns the truth (ms)."""

    time: npt.NDArray[np.int64]
    customer: npt.NDArray[np.int64]
    columns: Columns
    fraud: npt.NDArray[np.bool_]
    label_time: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)


def generate(
    story: FraudStory, start_ms: int, hours: float, per_minute: float, *, onset_ms: int | None
) -> Transactions:
    """Draw the transactions of ``hours`` from ``start_ms``; the new method exists from ``onset_ms`` on (None: never).

    Each hour has its own random stream keyed by (seed, hour), so that any stretch can be drawn again by itself.
    """
    first, last = start_ms // HOUR_MS, -(-(start_ms + round(hours * HOUR_MS)) // HOUR_MS)
    parts = [_hour(story, hour, per_minute, onset_ms) for hour in range(first, last)]
    joined = _concatenate(parts)
    keep = (joined.time >= start_ms) & (joined.time < start_ms + round(hours * HOUR_MS))
    return _select(joined, keep)


def _hour(story: FraudStory, hour: int, per_minute: float, onset_ms: int | None) -> Transactions:
    rng = np.random.default_rng([story.seed, 2, hour])
    n = int(rng.poisson(per_minute * 60))
    time = np.sort(rng.integers(hour * HOUR_MS, (hour + 1) * HOUR_MS, n))
    u_wallet = rng.random(n)
    wallet = (u_wallet < story.share) & (time >= onset_ms) if onset_ms is not None else np.zeros(n, bool)
    honest_risk = rng.random(n)
    fraud = np.where(wallet, honest_risk < 0.06, honest_risk < 0.03)
    columns = _honest(rng, n)
    _old_fraud(rng, columns, fraud & ~wallet)
    _wallet(rng, story, columns, wallet, fraud & wallet)
    device = columns["device_age_days"]
    columns["device_age_days"] = np.where(columns["method"] == "card_present", np.nan, device)
    delay = np.where(fraud, np.minimum(rng.lognormal(np.log(1.2), 0.5, n), 3.8), rng.uniform(2.5, 3.5, n))
    label_time = time + np.rint(delay * HOUR_MS).astype(np.int64)
    return Transactions(time, rng.integers(0, 50_000, n), columns, fraud, label_time)


def _honest(rng: np.random.Generator, n: int) -> Columns:
    method = rng.choice(METHODS[:3], n, p=(0.55, 0.33, 0.12))
    country = rng.choice(COUNTRIES, n, p=COUNTRY_SHARES)
    ratio = rng.lognormal(0.0, 0.45, n)
    return {
        "amount": np.round(rng.lognormal(3.4, 0.8, n) * ratio, 2),
        "amount_ratio": np.round(ratio, 3),
        "distance_km": np.round(rng.gamma(1.2, 9.0, n), 2),
        "payments_1h": rng.poisson(0.5, n).astype(float),
        "account_age_days": np.round(rng.gamma(2.5, 400.0, n)),
        "device_age_days": np.round(rng.gamma(2.0, 180.0, n)),
        "merchant_risk": np.round(rng.beta(2.0, 9.0, n), 3),
        "foreign": rng.random(n) < 0.06,
        "method": method.astype(object),
        "country": country.astype(object),
        "merchant": rng.choice(MERCHANTS, n, p=MERCHANT_SHARES).astype(object),
    }


def _put(columns: Columns, name: str, rows: npt.NDArray[np.bool_], values: npt.ArrayLike) -> None:
    columns[name][rows] = values


def _old_fraud(rng: np.random.Generator, columns: Columns, rows: npt.NDArray[np.bool_]) -> None:
    n = int(rows.sum())
    _put(columns, "amount_ratio", rows, np.round(rng.lognormal(0.9, 0.5, n), 3))
    _put(columns, "amount", rows, np.round(rng.lognormal(4.4, 0.8, n), 2))
    _put(columns, "distance_km", rows, np.round(rng.gamma(1.5, 60.0, n), 2))
    _put(columns, "payments_1h", rows, rng.poisson(3.0, n).astype(float))
    _put(columns, "device_age_days", rows, np.round(rng.gamma(0.7, 14.0, n)))
    _put(columns, "merchant_risk", rows, np.round(rng.beta(4.5, 5.0, n), 3))
    _put(columns, "foreign", rows, rng.random(n) < 0.45)
    _put(columns, "method", rows, rng.choice(METHODS[:3], n, p=(0.12, 0.76, 0.12)))
    _put(columns, "merchant", rows, rng.choice(MERCHANTS, n, p=(0.05, 0.03, 0.15, 0.30, 0.12, 0.15, 0.15, 0.05)))


def _wallet(
    rng: np.random.Generator,
    story: FraudStory,
    columns: Columns,
    wallet: npt.NDArray[np.bool_],
    fraud: npt.NDArray[np.bool_],
) -> None:
    n = int(wallet.sum())
    _put(columns, "method", wallet, METHODS[3])
    _put(columns, "merchant", wallet, rng.choice(MERCHANTS, n, p=WALLET_MERCHANT_SHARES))
    _put(columns, "amount_ratio", wallet, np.round(rng.lognormal(0.45, 0.5, n), 3))
    _put(columns, "merchant_risk", wallet, np.round(rng.beta(4.0, 6.0, n), 3))
    _put(columns, "distance_km", wallet, np.round(rng.gamma(1.4, 30.0, n), 2))
    if story.new_devices:
        _put(columns, "device_age_days", wallet, np.round(rng.gamma(0.9, 20.0, n)))
    if story.bursts:
        _put(columns, "payments_1h", wallet, rng.poisson(2.2, n).astype(float))
    _new_fraud(rng, story.pattern, columns, fraud)


def _new_fraud(rng: np.random.Generator, pattern: Pattern, columns: Columns, rows: npt.NDArray[np.bool_]) -> None:
    n = int(rows.sum())
    if pattern == "takeover":
        _put(columns, "account_age_days", rows, np.round(rng.gamma(9.0, 330.0, n)))
        _put(columns, "distance_km", rows, np.round(rng.gamma(1.0, 2.0, n), 2))
        _put(columns, "amount_ratio", rows, np.round(rng.lognormal(1.5, 0.3, n), 3))
    elif pattern == "mule":
        _put(columns, "account_age_days", rows, np.round(rng.gamma(1.2, 12.0, n)))
        _put(columns, "amount", rows, np.round(rng.normal(950.0, 60.0, n), 2))
        _put(columns, "foreign", rows, rng.random(n) < 0.05)
    else:
        _put(columns, "amount", rows, np.round(rng.uniform(0.5, 3.0, n), 2))
        _put(columns, "payments_1h", rows, rng.poisson(9.0, n).astype(float))
        _put(columns, "amount_ratio", rows, np.round(rng.lognormal(-2.0, 0.3, n), 3))
    _put(columns, "merchant", rows, rng.choice(("gaming", "gift_cards"), n))


def _select(rows: Transactions, keep: npt.NDArray[np.bool_]) -> Transactions:
    columns = {name: values[keep] for name, values in rows.columns.items()}
    return Transactions(rows.time[keep], rows.customer[keep], columns, rows.fraud[keep], rows.label_time[keep])


def _concatenate(parts: list[Transactions]) -> Transactions:
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in FEATURES}
    return Transactions(
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.customer for part in parts]),
        columns,
        np.concatenate([part.fraud for part in parts]),
        np.concatenate([part.label_time for part in parts]),
    )
