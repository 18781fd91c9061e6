"""What a run's data are called: the filter taxonomy, and the rule by which filters choose files.

Values of one category are alternatives (OR), categories add up (AND), and ``NOT value`` is a veto over everything.
A category that no filter names imposes nothing.
Source: basf2 prompt calibration, INPUT_DATA_FILTERS; the combination rule is inferred from the use of the scripts.
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from b2cal_core.errors import ConfigurationError

DATA_TAG = "Data Tag"
"""The category that tells files of one run apart; all others hold for a run as a whole."""

INPUT_DATA_FILTERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Magnet": ("On", "Off", "Either"),
        "Beam Energy": ("No Beam", "4S", "Continuum", "Scan", ""),
        "Run Type": ("beam", "cosmic", "debug", "null", "physics"),
        DATA_TAG: (
            "bhabha_all_calib",
            "bhabha_combined_calib",
            "cosmic_calib",
            "gamma_gamma_calib",
            "hadron_calib",
            "btocharm_calib",
            "mumu_tight_or_highm_calib",
            "offip_calib",
            "radmumu_calib",
            "random_calib",
            "delayedbhabha_calib",
            "single_gamma_mc",
            "hlt_skim",
            "mumutight_calib",
            "mumutight_or_highm_calib",
        ),
        "Data Quality Tag": (
            ">=30 Minute Run",
            "Bad For Alignment",
            "Good",
            "Good Shifter",
            "Good For PXD",
            "Good Or Recoverable",
            "Good Or Recoverable Shifter",
        ),
    }
)

VETO = "NOT "
_CATEGORY_OF = {value: category for category, values in INPUT_DATA_FILTERS.items() for value in values}


def category_of(value: str) -> str:
    """The category of a filter value, its ``NOT`` aside.

    Raises:
        ConfigurationError: the taxonomy has no such value.
    """
    bare = value.removeprefix(VETO)
    try:
        return _CATEGORY_OF[bare]
    except KeyError:
        known = ", ".join(repr(name) for name in sorted(_CATEGORY_OF))
        msg = f"filter {value!r} is not in the taxonomy; use one of {known}, or NOT before one of them"
        raise ConfigurationError(msg) from None


def is_selected(labels: Collection[str], filters: Iterable[str]) -> bool:
    """Whether data that carry all of ``labels`` pass ``filters``.

    Args:
        labels: what is true of the data: magnet, beam energy, run type, data tag and every quality tag.
        filters: values of the taxonomy, each perhaps with ``NOT`` before it; ``Either`` accepts any magnet.
    """
    wanted: dict[str, set[str]] = {}
    vetoed: set[str] = set()
    for value in filters:
        category = category_of(value)
        if value.startswith(VETO):
            vetoed.add(value.removeprefix(VETO))
        else:
            wanted.setdefault(category, set()).add(value)
    if "Either" in wanted.get("Magnet", ()):
        del wanted["Magnet"]
    return vetoed.isdisjoint(labels) and all(not values.isdisjoint(labels) for values in wanted.values())
