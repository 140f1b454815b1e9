"""The fields of a transforms.json by which other programs state a lens, and the walk that checks each of them.

`FIELDS` is the table: a name in lower case without punctuation, and the check of its value. Fields that are not in it
pass, as does what `Lens` reads itself.
"""

import re
from collections import ChainMap, deque
from collections.abc import Iterator, Mapping
from typing import Any

from spinmeround.models.geometry import lens_checks
from spinmeround.models.geometry.lens_checks import COEFFICIENTS, Check, LensObject, squeezed
from spinmeround.storage.errors import printable

MAX_DEPTH = 32
"""Most levels of lists and objects, many more than any program writes."""

NUMBERS = {"w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y", *COEFFICIENTS}
READ = {"camera_model", "is_fisheye", "distortion_params"} | NUMBERS
"""The fields of `Lens`, which it reads in the document and in the frames."""

_CAMERA = re.compile("cam|lens|intrin|calib|sensor|optic|distort|projec|param|coef|ptr_?wrapper", re.IGNORECASE)
"""Names of objects of a camera."""

_SYNONYMS = {squeezed(name): name for name in NUMBERS} | {
    "fx": "fl_x",
    "fy": "fl_y",
    "focalx": "fl_x",
    "focaly": "fl_y",
    "ppx": "cx",
    "ppy": "cy",
    "principalpointx": "cx",
    "principalpointy": "cy",
}
"""Other names and spellings of numbers that `Lens` reads."""

_TABLE: tuple[tuple[Check, str], ...] = (
    (
        lens_checks.check_kind,
        "projection projectiontype projectionmodel projectionmode cameraprojection cameramodel cameratype lens "
        "lenstype lensmodel lensprojection distortionmodel distortiontype polymorphicname model modelname type",
    ),
    (
        lens_checks.check_flag,
        "isfisheye fisheye latlong equirectangular isequirectangular orthographic isorthographic spherical isspherical "
        "cylindrical ortho isortho omnidirectional ispanorama vr180 "
        "fthetap0 fthetap1 fthetap2 fthetap3 fthetap4 fthetap5",
    ),
    (lens_checks.unless_perspective(lens_checks.check_kind), "panoramatype"),
    (
        lens_checks.unless_perspective(lens_checks.check_flag),
        "orthoscale fisheyefov fisheyelens fisheyepolynomialk0 fisheyepolynomialk1 fisheyepolynomialk2 "
        "fisheyepolynomialk3 fisheyepolynomialk4",
    ),
    (
        lens_checks.check_distortion,
        "distortion distortions distortioncoefficients distortioncoefficient distortioncoeffs distortioncoeff "
        "distortioncoefs distortionparams distortionparameters distortionvector distcoefficients distcoeffs distcoeff "
        "distcoefs lensdistortion opticaldistortion radialdistortion tangentialdistortion thinprismdistortion "
        "radialcoefficients radialcoeffs radialparams tangentialcoefficients tangentialcoeffs tangentialparams "
        "thinprismcoefficients thinprismcoeffs thinprismparams distorted isdistorted hasdistortion",
    ),
    (
        lens_checks.check_coefficients,
        "d dist disto distok1 distok3 distot2 kc radial tangential thinprism coefficients coeffs coefs",
    ),
    (lens_checks.check_zero, "k7 k8 k9 p3 p4 s1 s2 s3 s4 taux tauy b1 b2 skew shear xi"),
    (lens_checks.check_shift, "shiftx shifty lensshift lensshiftx lensshifty"),
    (lens_checks.check_centre, "principalpoint"),
    (lens_checks.check_k, "k"),
    (
        lens_checks.check_matrix,
        "kmatrix intrinsic intrinsics intrinsicmatrix intrinsicsmatrix cameraintrinsic cameraintrinsics cameramatrix",
    ),
    (lens_checks.check_parameters, "params cameraparams"),
    (
        lens_checks.check_angle,
        "fov fovx fovy xfov yfov hfov vfov dfov fovdeg fovdegrees fieldofview horizontalfov verticalfov diagonalfov",
    ),
    (lens_checks.check_square, "pixelaspect pixelaspectratio pixelaspectx pixelaspecty"),
    (
        lens_checks.check_shutter,
        "rollingshutter isrollingshutter userollingshutter rollingshuttertype rollingshuttertime "
        "rollingshutterreadouttime rollingshutteroffset rollingshutteroffsets rollingshutterskew readouttime linedelay "
        "linereadouttime",
    ),
    (lens_checks.check_shutter_kind, "shutter shuttertype sensorshutter"),
    (lens_checks.check_still, "transformmatrixstart transformmatrixend"),
    (lens_checks.size_of("w"), "width"),
    (lens_checks.size_of("h"), "height"),
    *((lens_checks.same_as(native), name) for name, native in _SYNONYMS.items()),
)

FIELDS: dict[str, Check] = {name: check for check, names in _TABLE for name in names.split()}

_OF_CAMERAS = {
    *("model", "modelname", "type", "w", "h", "d", "k", "dist", "disto", "kc", "xi", "shear", "params", "shutter"),
    *("radial", "tangential", "coefficients", "coeffs", "coefs", "p3", "p4", "s1", "s2", "s3", "s4", "b1", "b2"),
    *(name for name, check in FIELDS.items() if check is lens_checks.check_angle),
}
"""Names that mean something else outside a camera."""


def check_lens_fields(document: Mapping[str, Any]) -> None:
    """Raises ValueError that names the first field of `FIELDS` with another lens, or a document that is too deep."""
    for place in list(_objects(document)):  # all of them first: the checks of values recurse
        prefix = f"{place.name}." if place.name else ""
        for field, value in place.fields.items():
            name = squeezed(field)
            check = None if place.read and field in READ else FIELDS.get(name)
            if check is not None and (place.camera or name not in _OF_CAMERAS):
                check(f"{prefix}{printable(field)}", value, place)


def _objects(document: Mapping[str, Any]) -> Iterator[LensObject]:
    """The objects in a document, the outer ones first; but for lists of frames that are not read."""
    top, frames = dict(document), document.get("frames")
    listed = frames if isinstance(frames, list) else []
    numbered = [(number, frame) for number, frame in enumerate(listed) if isinstance(frame, Mapping)]
    stated = ChainMap(top, *(dict(frame) for _, frame in numbered[:1]))
    found: deque[tuple[LensObject, Any, int]] = deque([(LensObject("", top, True, True, stated), top, 0)])
    while found:
        place, value, depth = found.popleft()
        if depth > MAX_DEPTH:
            raise ValueError(f"{printable(place.name)}: expected lists and objects in at most {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            yield place
        if depth == 0:
            found.extend((_frame(top, number, frame), frame, 1) for number, frame in numbered)
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            if isinstance(each, Mapping | list) and (depth or not str(key).lower().endswith("frames")):
                found.append((_inside(place, key, each), each, depth + 1))


def _inside(place: LensObject, key: str | int, value: Any) -> LensObject:
    fields = value if isinstance(value, Mapping) else {}
    if isinstance(key, int):
        return place._replace(name=f"{place.name}[{key}]", fields=fields)
    name = f"{place.name}.{printable(key)}" if place.name else printable(key)
    camera = bool(_CAMERA.search(key)) or (place.camera and not place.read)
    return LensObject(name, fields, False, camera, place.stated)


def _frame(document: dict[str, Any], number: int, frame: Mapping[str, Any]) -> LensObject:
    return LensObject(f"frames[{number}]", frame, True, True, ChainMap(dict(frame), document))
