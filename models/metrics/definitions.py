"""Every metric of the evaluation: what it is, its range, the pictures it is computed on, and how tables print it.

The report, the command line and the documentation print this table. Values of a head are means over its target views;
values of a prediction are means over heads, but for those of sets (`of_set`), which have one value for all pictures.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MetricDefinition:
    """One metric. `label` is as written within a sentence, `suffix` is the unit after a single value."""

    label: str
    unit: str
    digits: int
    higher_is_better: bool
    definition: str
    range: str
    pictures: str
    suffix: str = ""
    of_set: bool = False

    def text(self, value: float) -> str:
        """A value as written, with a true minus (U+2212) and without unit."""
        return signed_text(f"{value:.{self.digits}f}")

    def interval_text(self, interval: tuple[float, float] | None) -> str:
        """An interval as "0.61 to 0.72"; empty for None."""
        return "" if interval is None else " to ".join(self.text(end) for end in interval)


PSNR_LIMIT_DB = 100.0
"""PSNR of equal pictures, which is infinite by its formula; 8-bit pictures that differ at all rarely reach it."""

_TARGETS = "all target views, RGB on white"

METRICS = {
    "l2": MetricDefinition(
        label="L2",
        unit="mean squared difference",
        digits=4,
        higher_is_better=False,
        definition="Mean squared difference of the colours, 0 to 1, over pixels and channels.",
        range="0 (equal) to 1",
        pictures=_TARGETS,
    ),
    "psnr": MetricDefinition(
        label="PSNR",
        unit="dB",
        digits=2,
        higher_is_better=True,
        definition="10 log10(1 / L2) of each picture; 100 for equal pictures.",
        range="0 to 100 (equal)",
        pictures=_TARGETS,
        suffix=" dB",
    ),
    "ssim": MetricDefinition(
        label="SSIM",
        unit="−1 to 1",
        digits=3,
        higher_is_better=True,
        definition="Structural similarity (Wang et al. 2004), Gaussian window of 11 pixels, mean over channels and "
        "the pixels whose window lies inside the picture.",
        range="−1 to 1 (equal)",
        pictures=_TARGETS,
    ),
    "lpips": MetricDefinition(
        label="LPIPS",
        unit="learned distance",
        digits=3,
        higher_is_better=False,
        definition="Learned perceptual distance (Zhang et al. 2018) with AlexNet.",
        range="0 (equal) upwards, about 1 for unrelated pictures",
        pictures=_TARGETS,
    ),
    "identity_similarity": MetricDefinition(
        label="identity similarity",
        unit="cosine of embeddings",
        digits=3,
        higher_is_better=True,
        definition="Cosine of the recognition embeddings of each predicted picture and its own true picture, both "
        "aligned by the landmarks of the true one.",
        range="−1 to 1 (equal)",
        pictures="target views that show the face (embed.facing) with all five landmarks",
    ),
    "normal_angular_error_deg": MetricDefinition(
        label="normal angular error",
        unit="degrees",
        digits=1,
        higher_is_better=False,
        definition="Mean angle between predicted and true normals, over the pixels of all target views together.",
        range="0 (equal) to 180",
        pictures="normals of all target views, where the true mask is 255",
        suffix="°",
    ),
    "consistency": MetricDefinition(
        label="consistency",
        unit="dB",
        digits=2,
        higher_is_better=True,
        definition="PSNR between pairs of predicted views, of the pixels of one that the other sees too by the visual "
        "hull of the true masks of all views. It knows no truth: smooth pictures score high, so read it beside PSNR, "
        "and beside the value of the true views.",
        range="0 to 100 (equal); that of true views is limited by resampling, reflections and the hull",
        pictures="all pairs of target views whose cameras are at most 60 degrees apart, where the masks of the head "
        "have an outline and its cameras surround it",
        suffix=" dB",
    ),
    "mask_iou": MetricDefinition(
        label="mask IoU",
        unit="intersection over union",
        digits=3,
        higher_is_better=True,
        definition="Intersection over union of the predicted and the true mask, each at half opacity. A prediction "
        "without masks has a head where its encoded normals are longer than a half.",
        range="0 to 1 (equal)",
        pictures="masks of all target views",
    ),
    "fid": MetricDefinition(
        label="FID",
        unit="Fréchet distance",
        digits=1,
        higher_is_better=False,
        definition="Fréchet distance of Inception features (Heusel et al. 2017) between the sets of predicted and true "
        "pictures. Biased upwards for few pictures: compare only sets of equal size.",
        range="0 (equal sets) upwards",
        pictures="the target views of all heads as one set",
        of_set=True,
    ),
    "kid": MetricDefinition(
        label="KID",
        unit="kernel distance",
        digits=4,
        higher_is_better=False,
        definition="Kernel distance of Inception features (Bińkowski et al. 2018), unbiased for any number of "
        "pictures.",
        range="about 0 (equal distributions; may be slightly negative) upwards",
        pictures="the target views of all heads as one set",
        of_set=True,
    ),
}


def metric_of(name: str) -> MetricDefinition:
    """The definition of a metric; an unknown one keeps its name, and a lower value counts as better."""
    if name in METRICS:
        return METRICS[name]
    return MetricDefinition(
        label=name.replace("_", " "),
        unit="lower is better",
        digits=4,
        higher_is_better=False,
        definition="not described",
        range="unknown",
        pictures="unknown",
    )


def signed_text(number: str) -> str:
    """A formatted number with U+2212 in place of a leading hyphen."""
    return "−" + number[1:] if number.startswith("-") else number


def p_value_text(value: float | None) -> str:
    """A p-value as "p = 0.030"; empty for None."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def definition_rows() -> list[tuple[str, ...]]:
    """The table as text: metric, direction, definition, range, pictures."""
    return [
        (each.label, "higher" if each.higher_is_better else "lower", each.definition, each.range, each.pictures)
        for each in METRICS.values()
    ]
