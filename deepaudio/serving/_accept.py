"""What a client would like to have."""

from collections.abc import Mapping, Sequence


def preferred(accept: Sequence[str], known: Mapping[str, str]) -> str | None:
    """What to give of what is known.

    Args:
        accept: Values of the header `Accept`; none at all means anything.
        known: From media type to what is given for it; the first is the default.

    Returns:
        Of the acceptable ones, that of the highest quality (RFC 9110, section 12.5.1), the one
        named most precisely among equals; None if none is acceptable.
    """
    ranges = [_parsed(part) for part in ",".join(accept).split(",") if part.strip()]
    ranked = []
    for place, (media_type, given) in enumerate(known.items()):
        # The most precise range that names a type says its quality.
        fits = [(_precision(r, media_type), quality) for r, quality in ranges]
        precision, quality = max(fits, default=(0, 1.0)) if ranges else (0, 1.0)
        if precision >= 0 and quality > 0:
            ranked.append((quality, precision, -place, given))
    return max(ranked)[3] if ranked else None


def _parsed(part: str) -> tuple[str, float]:
    media_range, *parameters = (word.strip().lower() for word in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
    return media_range, quality


def _precision(media_range: str, media_type: str) -> int:
    """2 if it names the type, 1 the kind, 0 anything; -1 if it does not fit."""
    if media_range == media_type:
        return 2
    if media_range == media_type.partition("/")[0] + "/*":
        return 1
    return 0 if media_range == "*/*" else -1
